"""The least that a reader in Python must do: decode each entry of a Licenses log, or split each row of a table.

`python -m tests.bench.floor LOG FILE…` prints how many lines it has seen.
"""

import sys

import msgspec


def main() -> None:
    """Read the files line by line."""
    log, *paths = sys.argv[1:]
    decode = msgspec.json.Decoder().decode if log == "licenses" else lambda line: line.split(b"\t")
    count = 0
    for path in paths:
        with open(path, "rb") as stream:
            for line in stream:
                decode(line)
                count += 1
    print("records_total{} ", count)


main()
