"""`python -m exporter` is `qlik-license-exporter`: the entry point of every process but the Windows service."""

import gc
import sys

from exporter import signals


def main() -> int:
    """Run the command line. Every failure ends with an exit code and one line, never with a traceback."""
    signals.hold()  # before the rest is loaded, which takes a while
    gc.disable()  # until then nothing is garbage
    try:
        from exporter.cli import main as carry_out
        from exporter.last_words import replace_tracebacks

        replace_tracebacks()
        return carry_out()
    except Exception as error:  # the last place where an error can be reported: out of memory, or a bug
        words = "there is not enough memory (ulimit -v, MemoryMax=)"
        if not isinstance(error, MemoryError):
            try:
                from exporter.last_words import reason

                words = reason(error)
            except Exception:  # too little memory to load even that: Python then raises whatever it can
                words = f"{type(error).__name__}: {error}"
        if sys.stderr is not None:
            sys.stderr.write(f"qlik-license-exporter: {words}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
