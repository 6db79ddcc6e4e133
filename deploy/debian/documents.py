"""`documents.py LIBRARY FOLDER`: writes the man page and the copyright file of the Debian package into FOLDER.

LIBRARY is where the exporter and its dependencies were installed: both are made from what is there.
"""

import email.message
import re
import sys
import time
from importlib.metadata import Distribution, distributions
from pathlib import Path

LIBRARY, OUT = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(LIBRARY))

from exporter.cli import COMMANDS, _parser  # noqa: E402  # found only by the line above; _parser has all help texts

OURS = "qlik-license-exporter"
PLACE = f"usr/lib/{OURS}"
EXIT_CODES = {"0": "stopped as asked", "1": "failed", "2": "the configuration or the command line cannot be used"}
FILES = {
    f"/etc/{OURS}/config.yml": "the configuration of the service; every key is optional",
    f"/etc/{OURS}/NODE.yml": f"that of {OURS}@NODE.service",
    f"/var/lib/{OURS}/": "the state: read offsets and durable counters",
}


def roff(text: str) -> str:
    """Text as a man page holds it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in text.split("\n"))


def terms(entries: dict[str, str]) -> str:
    """A list of terms, each with its meaning."""
    return "".join(f".TP\n.B {roff(term)}\n{roff(meaning)}\n" for term, meaning in entries.items())


def man_page(version: str, seconds: int) -> str:
    """The page of section 1, with the help of the command line."""
    parser = _parser("run")
    options = {
        ", ".join(action.option_strings) + (f" {action.metavar}" if action.metavar else ""): action.help or ""
        for action in parser._actions  # argparse has no public way to list them
        if action.option_strings
    }
    options = {flag: re.sub(r"%%", "%", text) for flag, text in options.items()}
    day = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    return (
        f'.TH {OURS.upper()} 1 {day} "{version}" "User Commands"\n'
        f".SH NAME\n{roff(OURS)} \\- Prometheus exporter for Qlik Sense licensing\n"
        f".SH SYNOPSIS\n.B {roff(OURS)}\n[\\fICOMMAND\\fR] [\\fIOPTION\\fR]...\n"
        ".SH DESCRIPTION\nReads the license logs of Qlik Sense, probes the license backend, and serves metrics.\n"
        f"{roff(f'`{OURS} COMMAND --help` tells more of each command.')}\n"
        f".SH COMMANDS\n{terms({name: command.sentence for name, command in COMMANDS.items()})}"
        f".SH OPTIONS\n{terms(options)}"
        f".SH FILES\n{terms(FILES)}.SH EXIT STATUS\n{terms(EXIT_CODES)}"
        f".SH SEE ALSO\n{roff(f'/usr/share/doc/{OURS}/README.md')}, \\fBprometheus\\fR(1)\n"
    )


def copyright_file() -> str:
    """In Debian's machine-readable form: ours, and a paragraph for each package that comes along."""
    parts = [
        f"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: {OURS}\n",
        f"Files: *\nCopyright: 2026 the {OURS} authors\nLicense: Apache-2.0\n",
    ]
    for package in sorted(distributions(path=[str(LIBRARY)]), key=lambda one: one.metadata["Name"].lower()):
        if package.metadata["Name"] != OURS:
            parts.append(paragraph(package))
    parts.append(
        "License: Apache-2.0\n On Debian systems, the full text is in /usr/share/common-licenses/Apache-2.0.\n"
    )
    return "\n".join(parts)


def paragraph(package: Distribution) -> str:
    """Files, holders and license of one package. Its own license files stay beside it."""
    info = next(
        path
        for path in LIBRARY.glob("*.dist-info")
        if Distribution.at(path).metadata["Name"] == package.metadata["Name"]
    )
    tops = sorted({str(file).partition("/")[0] for file in package.files or () if ".." not in str(file)})
    files = [f"{PLACE}/{top}" + ("/*" if (LIBRARY / top).is_dir() else "") for top in tops if (LIBRARY / top).exists()]
    texts = [
        file.read_text("utf-8", "replace")
        for file in sorted(info.rglob("*"))
        if re.match(r"licen[cs]e|copying|notice", file.name, re.I) and file.is_file()
    ]
    holders = list(dict.fromkeys(re.findall(r"^\W*(Copyright (?:\(c\)|©)?\s*.*\w.*)$", "\n".join(texts), re.I | re.M)))
    holders = [line.strip() for line in holders if re.search(r"\d{4}", line)] or [
        f"the authors of {package.metadata['Name']}"
    ]
    license_name = short_license(package.metadata)
    listed = "\n ".join(files)
    return (
        f"Files: {listed}\nCopyright: "
        + "\n ".join(holders)
        + f"\nLicense: {license_name}\n"
        + (f" The full text is in /{PLACE}/{info.name}.\n" if license_name != "Apache-2.0" else "")
    )


def short_license(metadata: email.message.Message) -> str:
    """The license as one word, as Debian's format wants it."""
    text = metadata.get("License-Expression") or ""
    if not text:
        classifiers = [line.rpartition(":: ")[2] for line in metadata.get_all("Classifier", []) if "License ::" in line]
        text = metadata.get("License") or (classifiers or ["see-the-file"])[0]
    text = text.strip().splitlines()[0]
    known = {
        "Apache 2": "Apache-2.0",
        "Apache License": "Apache-2.0",
        "Apache Software": "Apache-2.0",
        "MIT": "MIT",
        "Python Software": "PSF-2.0",
    }
    text = next((name for start, name in known.items() if text.startswith(start)), text)
    return re.sub(r"\s+(or|and)\s+", lambda found: f" {found[1].lower()} ", text, flags=re.I)


if __name__ == "__main__":
    ours = next(one for one in distributions(path=[str(LIBRARY)]) if one.metadata["Name"] == OURS)
    (OUT / f"{OURS}.1").write_text(man_page(ours.version, int(sys.argv[3])))
    (OUT / "copyright").write_text(copyright_file())
