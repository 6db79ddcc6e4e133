"""`python sums.py FOLDER NAME...`: writes the digests of these files into FOLDER's SHA256SUMS; other lines stay."""

import hashlib
import sys
from pathlib import Path

NAME = "SHA256SUMS"


def digest(path: Path) -> str:
    """SHA-256 of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note(folder: Path, names: list[str]) -> None:
    """Bring the lines of `names` up to date, in the format of sha256sum."""
    sums = folder / NAME
    lines = sums.read_text().splitlines() if sums.is_file() else []
    kept = [line for line in lines if line.partition("  ")[2] not in names]
    new = [f"{digest(folder / name)}  {name}" for name in names]
    sums.write_text("".join(f"{line}\n" for line in sorted(kept + new, key=lambda line: line.partition("  ")[2])))


if __name__ == "__main__":
    note(Path(sys.argv[1]), sys.argv[2:])
