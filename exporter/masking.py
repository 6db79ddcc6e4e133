"""Masking: removes people, hosts, keys and numbers from log texts; equal wordings become equal texts.

Names cannot be recognised as such, so the rule is the reverse. What has the form of an identifier is masked. So is
every word that is not common in log messages (`words.txt`). And where the sentence shows that a person or a machine is
named (`user X`, `X was refused`, `denied to X`), every word is masked except the few that are common there.
Masking too much costs a look at the original; masking too little leaks data.
"""

import re
from collections.abc import Callable, Sequence

from exporter.printable import printable
from exporter.vocabulary import (
    BEFORE_NAMES,
    CONJUNCTIONS,
    DETERMINERS,
    FOLLOWERS,
    FUNCTION,
    GIVING,
    KNOWN,
    NAMES_TOO,
    OPERATIONS,
    PERSON_VERBS,
    SUBJECT_VERBS,
    THINGS,
    TITLES,
)

LONGEST_TEXT = 2_000
"""Longest text, in characters; the rest is cut off."""
MOST_TEMPLATES = 1_000
"""Distinct wordings that are counted separately; further ones are counted together."""
MOST_SHAPES = 50_000
"""Texts whose masked form is remembered."""
PUBLIC_HOST = "license.qlikcloud.com"
"""The only host that is not masked: it is Qlik's, and the same for everyone."""
OTHERS = "(further messages)"


def masked(text: str) -> str:
    """`text` with everything that could name a person, a host, a key or a number replaced by its kind."""
    text = printable(text[:LONGEST_TEXT])
    shape = _shape(text)
    found = _shapes.get(shape)
    if found is None:
        found = _masked(text, strict=False)
        if len(_shapes) >= MOST_SHAPES:
            _shapes.clear()
        _shapes[shape] = found
    return found


def _shape(text: str) -> str:
    """The part that determines how a text is masked: everything but its digits."""
    return _DIGITS.sub(lambda run: run[0] if run[1] else "0", text)


_DIGITS = re.compile(
    r"((?:result|code|status|sessioncount)[\"']?\s*[:=]\s*[\"']?\d{1,3}(?!\w))|[0-9a-f]*\d[0-9a-f]*", re.IGNORECASE
)
_shapes: dict[str, str] = {}
"""The masked texts by their shape: most lines of a log differ only in digits."""


def masked_name(path: str) -> str:
    """The last part of `path`, without the machine in a name given by Qlik."""
    name = printable(re.split(r"[\\/]", path)[-1])
    if found := _QLIK_FILE.fullmatch(name):
        return f"<host>_{found[1]}"
    stem, dot, ending = name.rpartition(".")
    return f"{masked(stem)}{dot}{ending}" if dot else masked(name)


_QLIK_FILE = re.compile(r"[^\\/]+?_([A-Za-z]+_[A-Za-z]+(?:_[\dT.-]+Z)?\.(?:txt|log))", re.IGNORECASE)
"""`<Machine>_<LogType>_<Service>.txt`, and rotated ones (qlik-facts 2)."""


class Templates:
    """The distinct wordings among some texts, counted."""

    def __init__(self, show_people: bool = False) -> None:
        self._show_people = show_people
        self._counts: dict[tuple[str, str], list[float]] = {}

    def add(self, log: str, text: str, count: int, times: Sequence[float]) -> None:
        """Count a text of `log` so many times; among `times` are the earliest and the latest of its row times."""
        template = (printable(text) if self._show_people else masked(text)) or "(no text)"
        key = (log, template)
        row = self._counts.get(key)
        if row is None:
            if len(self._counts) >= MOST_TEMPLATES:
                key = (log, OTHERS)
            row = self._counts.setdefault(key, [0, float("inf"), float("-inf")])
        row[0] += count
        if times:
            row[1], row[2] = min(row[1], *times), max(row[2], *times)

    def rows(self) -> list[dict[str, object]]:
        """`log`, `template`, `count`, `first` and `last` (seconds since 1970, or None), the most frequent first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1][0], item[0]))
        return [
            {
                "log": log,
                "template": template,
                "count": int(number),
                "first": first if first <= last else None,
                "last": last if first <= last else None,
            }
            for (log, template), (number, first, last) in ordered
        ]


_LOGIN = r"TlRMTVNTUA[A-Za-z0-9+/=_-]*|(?:(?<=NTLM[ ])|(?<=Negotiate[ ]))[A-Za-z0-9+/=]{16,}"
"""A message of NTLM or Negotiate in base64: user, domain, computer, and data that helps to guess the password."""


def without_logins(text: str) -> str:
    """`text` without NTLM messages, which nobody may see, not even those who may see people."""
    return re.sub(_LOGIN, "<secret>", text, flags=re.IGNORECASE)


# The kinds of parts of a text, first match wins; the name of the group is the replacement.
_PIECES = re.compile(
    r"""
    (?P<kept>(?<![A-Za-z])(?:result|code|status|status\ ?code|sessioncount)["']?\s*[:=]\s*["']?\d{1,3}(?!\w)["']?)
  | (?P<login>"""
    + _LOGIN
    + r""")
  | (?P<secret>(?<![A-Za-z])(?:password|passwd|passphrase|pwd|secret|token|api-?key|authorization|proxy-authorization|
        signed(?:\ license)?\ key|license\ ?key|key|cookie|checksum|signature|credentials?)
        ["']?\s*[:=]\s*(?:(?:basic|bearer|ntlm|negotiate)\s+)?(?:"[^"]*"|'[^']*'|[^\s,;|&]+))
  | (?P<named>(?<![A-Za-z])(?:(?:user|owner|account|login|member|subject|principal|host|machine|node|server|computer|
        domain|directory|tenant|customer|company|organi[sz]ation|license|serial|control|proxy|client|app|object|display|
        given|sur|first|last|full)[\ _]?(?:name|id|directory|number|no|address)?|name|email|mail|e-mail|addr|address|cn|
        ou|dc|uid|sid|hostname|ip)
        ["']?\s*[:=]\s*(?:"[^"]*"|'[^']*'|[^\s,;|&:]+(?:\\[^\s,;|&]+)?))
  | (?P<url>\b[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>|;,)]+)
  | (?P<quoted>(?<!\w)(?:'[^'\n]{0,400}'|"[^"\n]{0,400}"|`[^`\n]{0,400}`|\u201c[^\u201d\n]{0,400}\u201d)(?!\w))
  | (?P<user>[\w.+%$-]+@[\w.-]+|[\w.$-]+\\[\w.$-]+)
  | (?P<path>[A-Za-z]:[\\/][^\s"'|;,]*|\\\\[^\s"'|;,]+|(?<![\w.<])/(?:[\w.@%+~-]+/)*[\w.@%+~-]+)
  | (?P<time>(?<!\d)(?:\d{4}-\d\d-\d\d|\d{8}(?=T))
        (?:[T\ ]\d\d[:.]?\d\d(?:[:.]?\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)
        |\b\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\b)
  | (?P<id>\{?\b[0-9A-Fa-f]{8}-(?:[0-9A-Fa-fx]{4}-){3}[0-9A-Fa-fx]{12}\b\}?
        |\b(?:0x)?(?=[0-9A-Fa-f:]*\d)[0-9A-Fa-f]{8,}(?::[0-9A-Fa-f]+)*\b)
  | (?P<address>\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d+|/\d+)?
        |\[?(?<![\w:])(?=[0-9A-Fa-f]*:[0-9A-Fa-f:]*)(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:%\w+)?\]?(?::\d+)?(?!\w))
  | (?P<number>(?<![\w.])[-+]?\d+(?:[\ .,-]\d+)*(?:\s?(?:ns|us|µs|ms|s|m|h|d|min|sec|kb|mb|gb|b|%))?(?!\w|\.\w))
  | (?P<host>\b[^\W_](?:[\w-]*\w)?(?:\.[^\W_](?:[\w-]*\w)?)+(?::\d+)?)
  | (?P<token>\b[A-Za-z0-9+/_=-]{24,})
  | (?P<mixed>\w*\d[\w-]*|\w+(?:[-_]\w+)*_\w+)
  | (?P<word>[^\W\d_]+(?:['\u2019][^\W\d_]+)?)
  | (?P<rest>.)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_PAIR = re.compile(r"""(.*?["']?\s*[:=]\s*)(.*)""", re.DOTALL)
_CAMEL_CASE = re.compile("[a-z][A-Z]")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ABSTRACT = re.compile(
    r".{2,}(?:ings?|[ts]ions?|ments?|i?ty|[ae]nce|ness|[ai]ble|ful|less|ous|ive|ly|ure|[^e]ed|i[sz]e)"
)
"""Endings of known words that do not occur in names."""
_ENDING = re.compile(r"(.+?)(?:ings?|(?:at)?ions?|ments?|[ai]ble|ness|ously|fully|ed|ity|less)")
_PREFIX = re.compile(r"(?:un|re|in|dis|mis|non|pre|over|under|de)(?=.{4})")


def _masked(text: str, strict: bool) -> str:
    """`strict`: within quotes, where any word that is not known may be a name."""
    out: list[str] = []
    previous = ["", ""]  # the two words before, in lower case; `name` for a masked one
    begins = True  # whether a sentence begins here
    pieces = list(_PIECES.finditer(text))
    for place, piece in enumerate(pieces):
        kind, found = piece.lastgroup or "rest", piece[0]
        if kind == "rest":
            out.append(found)
            if found in ".:!?|\n;([=":
                begins = True
                if found not in "=:([":
                    previous = ["", ""]
            continue
        if kind == "word":
            lowered = found.lower()
            named = _stands_for_someone(lowered, previous, begins, _following(pieces, place))
            if _CAMEL_CASE.search(found) and _is_identifier(found):
                named = False  # `SessionID`
            known = not named and _is_wording(found, previous[1], strict)
            shown = found if known else "<name>"
            previous = [previous[1], lowered if known else "name"]  # a first name is followed by a second
        else:
            shown = _MASKS[kind](found)
            if kind == "quoted" and shown == found and _stands_for_someone(found, previous, False, ""):
                shown = f"{found[0]}<text>{found[-1]}"
            previous = [previous[1], "name" if kind == "named" or (kind == "quoted" and shown != found) else ""]
        out.append(shown)
        begins = False
    return "".join(out)


def _following(pieces: list[re.Match[str]], place: int) -> str:
    """The next word, in lower case, or the sign that is between."""
    for piece in pieces[place + 1 : place + 3]:
        if piece[0] != " ":
            return piece[0].lower()
    return ""


def _stands_for_someone(word: str, previous: list[str], begins: bool, following: str) -> bool:
    """Whether the sentence names a person or a machine here, and `word` is not one that is common in this place."""
    earlier, before = previous
    if before in TITLES:
        return not (word in FUNCTION or word in FOLLOWERS or _is_abstract(word))
    if before in DETERMINERS or word in FUNCTION or word in THINGS or _is_abstract(word):
        return False
    opens = begins or before in CONJUNCTIONS
    return (
        before in ("for", "by")
        or before in PERSON_VERBS
        or (before in ("to", "from", "of", "with") and (earlier in GIVING or following == ":"))
        or (earlier, before) in (("name", "and"), ("welcome", "back"))
        or (opens and _is_verb(following))
        or (begins and (following in _BEHIND_A_SUBJECT or (following == ":" and word not in OPERATIONS)))
        or (begins and bool(before) and not following)  # `session closed: X`
        or (before in ("was", "were", "is") and following in PERSON_VERBS)
        or _is_owner(word)
        or (word in NAMES_TOO and before in BEFORE_NAMES)
    )


def _is_owner(word: str) -> bool:
    """Whether `word` is somebody's: `grant's`, and not `service's`."""
    thing = word.removesuffix("'s").removesuffix("\u2019s")
    return thing != word and thing not in THINGS and thing not in FUNCTION


def _is_verb(word: str) -> bool:
    """Whether `word`, after the first word of a sentence, is a verb with that word as its subject."""
    known = word in KNOWN or word.removesuffix("s") in KNOWN
    return word in SUBJECT_VERBS or (known and word not in THINGS and bool(_VERB.fullmatch(word)))


_VERB = re.compile(r".{2,}[^e]ed|.{2,}[^su]s")
_BEHIND_A_SUBJECT = frozenset({"and", "(", "[", "]", ",", "-"})


def _is_abstract(word: str) -> bool:
    return word in KNOWN and word not in NAMES_TOO and bool(_ABSTRACT.fullmatch(word))


def _is_wording(word: str, before: str, strict: bool) -> bool:
    lowered = word.lower()
    if lowered in KNOWN or lowered.rstrip("s") in KNOWN or lowered.removesuffix("'s") in KNOWN:
        return True
    if strict or not word.isascii():
        return False
    if word.islower():
        return before not in BEFORE_NAMES and _is_derived(word)
    return not word.isupper() and (_is_derived(lowered) if word.istitle() else _is_identifier(word))


def _is_derived(word: str) -> bool:
    """Whether `word` is derived from a known one, such as `revalidating`."""
    ending = _ENDING.fullmatch(_PREFIX.sub("", word, count=1))
    if ending is None:
        return _PREFIX.sub("", word, count=1) in KNOWN and word not in KNOWN and len(word) > 6
    stem = ending[1]
    return (
        len(stem) > 4
        and stem not in NAMES_TOO
        and any(made in KNOWN for made in (stem, f"{stem}e", f"{stem}ate", f"{stem}y", stem[:-1]))
    )


def _is_identifier(word: str) -> bool:
    """Whether `word` is an identifier of a program, such as `InvalidLicenseError`: a part of it is a known word."""
    parts = [part.lower() for part in _CAMEL.findall(word)]
    return len(parts) > 1 and any(part in KNOWN or part.rstrip("s") in KNOWN for part in parts if len(part) > 2)


def _of_url(found: str) -> str:
    rest = found.partition("://")[2].partition("/")[0]
    return f"https://{PUBLIC_HOST}/<path>" if rest.lower() in (PUBLIC_HOST, f"{PUBLIC_HOST}:443") else "<url>"


def _of_host(found: str) -> str:
    name = found.partition(":")[0].lower()
    if name == PUBLIC_HOST:
        return found
    parts = name.split(".")
    if all(
        part in KNOWN or part.rstrip("s") in KNOWN or _is_identifier(original)
        for part, original in zip(parts, found.partition(":")[0].split("."), strict=True)
    ):
        return found
    return "<number>" if name.replace(".", "").isdigit() else "<host>"


def _of_quoted(found: str) -> str:
    inner = _masked(found[1:-1], strict=True)
    return f"{found[0]}{'<text>' if '<name>' in inner else inner}{found[-1]}"


def _of_pair(mask: str, found: str) -> str:
    pair = _PAIR.match(found)
    if pair is None:
        return mask
    name, value = pair[1], pair[2]
    quote = value[:1] if value[:1] in "\"'" else ""
    bare = value.strip("\"'")
    if mask == "<name>" and not quote:  # `user: not found`, `license: expired`
        someone = name.strip(" \t=:\"'").lower().removesuffix("name").rstrip(" _") in TITLES | {""}
        if _is_no_name(bare.lower(), someone):
            return found
    return f"{name}{quote}{mask}{quote}"


def _is_no_name(word: str, someone: bool) -> bool:
    if someone:
        return word in FUNCTION or word in FOLLOWERS or _is_abstract(word)
    return word in KNOWN and word not in NAMES_TOO


def _of_token(found: str) -> str:
    if any(character.isdigit() for character in found) or len(found) > 40:
        return "<key>"
    return found if _is_identifier(found) or found.lower() in KNOWN else "<key>"


_KEPT_MIXED = {"x509", "http2", "h2", "ipv4", "ipv6", "utf8", "utf16", "sha1", "sha256", "tls1", "oauth2", "base64"}

_MASKS: dict[str, Callable[[str], str]] = {
    "kept": lambda found: found,
    "login": lambda found: "<secret>",  # a message of NTLM in base64
    "secret": lambda found: _of_pair("<secret>", found),
    "named": lambda found: _of_pair("<name>", found),
    "url": _of_url,
    "quoted": _of_quoted,
    "user": lambda found: "<user>",
    "path": lambda found: "<path>",
    "time": lambda found: "<time>",
    "id": lambda found: "<id>",
    "address": lambda found: "<address>" if any(c.isalnum() for c in found) or "::" in found else found,
    "host": _of_host,
    "token": _of_token,
    "number": lambda found: "<number>",
    "mixed": lambda found: found if found.lower() in _KEPT_MIXED else "<id>",
}
