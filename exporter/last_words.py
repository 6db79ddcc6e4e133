"""The last message of a process that cannot continue, instead of a traceback: one line, with what to do."""

import errno
import logging
import sys
import threading
from pathlib import Path

OPEN_FILES = 64
"""The smallest sufficient limit of open files: for the logs, the state file, sockets, and some concurrent scrapes."""

_log = logging.getLogger("exporter")


def reason(error: BaseException) -> str:
    """Why `error` ends the process, for a person who does not know the code."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many open files: at least {OPEN_FILES} must be allowed (ulimit -n, LimitNOFILE=)"
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return "there is not enough memory (ulimit -v, MemoryMax=)"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "no thread can be started: too little memory, or too many tasks (ulimit -v, ulimit -u, TasksMax=)"
    if isinstance(error, ImportError):
        return f"the installation is damaged, or there is not enough memory: {' '.join(str(error).split())}"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())} (at {_place(error)}); please report this"


def _place(error: BaseException) -> str:
    """The file and line of this program where `error` was raised."""
    found, step = "an unknown place", error.__traceback__
    while step is not None:
        file = Path(step.tb_frame.f_code.co_filename)
        if file.is_relative_to(Path(__file__).parent):
            found = f"{file.relative_to(Path(__file__).parent.parent).as_posix()}:{step.tb_lineno}"
        step = step.tb_next
    return found


def too_few_open_files() -> str:
    """Why this process cannot open enough files; empty if it can. Raises its limit if possible."""
    if sys.platform == "win32":
        return ""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES:
        return ""
    if hard == resource.RLIM_INFINITY or hard >= OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))
        return ""
    return f"only {hard} open files are allowed, at least {OPEN_FILES} are needed (ulimit -n, LimitNOFILE=)"


def replace_tracebacks() -> None:
    """Have Python log one line instead of a traceback if a thread dies or an exception cannot be caught."""
    threading.excepthook = lambda caught: _log.error("a thread ended: %s", reason(caught.exc_value or SystemExit()))
    sys.unraisablehook = lambda caught: _log.debug("ignored: %s", caught.exc_value)
