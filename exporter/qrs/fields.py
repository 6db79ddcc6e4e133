"""Reads fields of decoded answers of the Repository API. Pure.

A field that is missing, renamed or not understood is None, counted and named.
"""

import math
import re
from dataclasses import dataclass, field

LARGEST_NUMBER = 1e12
"""No count of seats, tokens or minutes is larger: beyond it a number is not understood."""
MOST_NOTES = 20
"""Sentences kept of one read; all problems are counted."""

FAMILIAR = frozenset(
    re.findall(
        r"\w+",
        """
        id createdDate modifiedDate modifiedByUserName lef serial check key keyDetails name organization product
        numberOfCores isExpired expiredReason isBlacklisted isInvalid isSubscription isCloudServices isElastic updated
        privileges schemaPath totalTokens availableTokens tokensEnabled userAccess loginAccess professionalAccess
        analyzerAccess analyzerTimeAccess enabled tokenCost allocatedTokens usedTokens quarantinedTokens
        unavailableTokens total allocated used quarantined excess available allocatedMinutes usedMinutes
        unavailableMinutes
        """,
    )
)
"""Every field name seen in public sources: others, beside a missing one, are what it may have been renamed to."""


@dataclass
class Findings:
    """The problems and notes of one read."""

    notes: list[str] = field(default_factory=list)
    problems: int = 0

    def note(self, sentence: str) -> None:
        """Add a sentence that is not a problem."""
        if len(self.notes) < MOST_NOTES and sentence not in self.notes:
            self.notes.append(sentence)

    def problem(self, sentence: str) -> None:
        """Count a problem and add its sentence."""
        self.problems += 1
        self.note(sentence)


@dataclass
class Part:
    """One JSON object of an answer. A field that is missing or not understood is None, counted, and named."""

    fields: dict[str, object]
    path: str
    findings: Findings

    def value(self, name: str) -> object:
        """The field `name` as it was decoded."""
        if name in self.fields:
            return self.fields[name]
        others = [other for other in self.fields if other not in FAMILIAR and re.fullmatch(r"\w{1,40}", other)]
        hint = f" (not known here: {', '.join(others[:5])})" if others else ""
        self.findings.problem(f"{self.path}.{name} is missing{hint}")
        return None

    def has(self, name: str) -> bool:
        """Whether the field is there. One that some releases do not have is missing only if it seems to be renamed."""
        return name in self.fields or any(other not in FAMILIAR for other in self.fields)

    def enabled_part(self, name: str) -> "Part | None":
        """The object called `name` if it says `enabled`; null is "there is none", and no problem."""
        value = self.value(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.findings.problem(f"{self.path}.{name} is not an object")
            return None
        part = Part(value, f"{self.path}.{name}", self.findings)
        return part if part.flag("enabled") else None

    def flag(self, name: str) -> bool | None:
        """The field `name` as a truth value."""
        value = self.value(name)
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if isinstance(value, bool):
            return value
        self._not_understood(name)
        return None

    def number(self, name: str, least: float = 0.0) -> float | None:
        """The field `name` as a number from `least` to `LARGEST_NUMBER`."""
        value = self.value(name)
        number = math.nan
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,20}(\.[0-9]{1,20})?\s*", value):
            number = float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) <= LARGEST_NUMBER else math.inf
        if least <= number <= LARGEST_NUMBER:
            return number
        self._not_understood(name)
        return None

    def seconds(self, name: str) -> float | None:
        """A number of minutes, in seconds."""
        minutes = self.number(name)
        return None if minutes is None else minutes * 60

    def holds_text(self, name: str) -> bool:
        """Whether the field `name` is a text that is not blank."""
        value = self.fields.get(name)
        return isinstance(value, str) and bool(value.strip())

    def _not_understood(self, name: str) -> None:
        if name in self.fields:
            found = "null" if self.fields[name] is None else "not understood"
            self.findings.problem(f"{self.path}.{name} is {found}")
