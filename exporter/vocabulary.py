"""The words that are common in log messages, for `masking`: the sections of `words.txt`."""

from importlib.resources import files


def _sections() -> dict[str, frozenset[str]]:
    words: dict[str, set[str]] = {}
    section: set[str] = set()
    for line in files("exporter").joinpath("words.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            section = words.setdefault(line.strip("[]"), set())
        elif not line.startswith("#"):
            section.update(line.split())
    return {name: frozenset(found) for name, found in words.items()}


_SECTIONS = _sections()
NAMES_TOO = _SECTIONS["names too"]
"""Known words that are names as well: where a name is possible, they are taken for one."""
FUNCTION = _SECTIONS["function"]
"""Conjunctions, articles and similar words."""
DETERMINERS = _SECTIONS["determiners"]
THINGS = _SECTIONS["things"]
BEFORE_NAMES = _SECTIONS["before names"]
TITLES = _SECTIONS["titles"]
FOLLOWERS = _SECTIONS["followers"]
SUBJECT_VERBS = _SECTIONS["subject verbs"]
PERSON_VERBS = _SECTIONS["person verbs"]
GIVING = _SECTIONS["giving words"]
CONJUNCTIONS = _SECTIONS["conjunctions"]
OPERATIONS = _SECTIONS["operations"]
KNOWN = frozenset().union(*(_SECTIONS.values()))
"""Not names, except in a place where a person is named."""
