"""Whether a text is about trouble, the sync, an incoming request, or another service of this node.

Pure. These are the rules for texts that no catalogue can list: a proxy answers in its own words, and Windows in the
language of the node. They only distinguish trouble from none; folding decides what that means for a sync.
"""

import hashlib
import http
import ipaddress
import re
from functools import lru_cache

from exporter.events import ErrorClass

QLIK_PORTS = frozenset(
    {4242, 4243, 4244, 4432, 4570, 4747, 4899, 4900, 5050, 5051, 5052, 5151, 6060, 8080, 8081, 9028, 9031, 9032, 9041}
    | {9051, 9054, 9079, 9080, 9081, 9090, 9098, 9200, 9997, 9998}
)
"""The ports that Qlik's own services listen on (qlik-facts 7)."""

# --- words -----------------------------------------------------------------------------------------------------------
# All of these patterns are for texts in lower case: then a search compares first letters before it tries a word.

_SYNC = re.compile(
    r"""qlikcloud
    | \b(?: (?:re-?)?sync(?:h|s|ed|ing|(?:h?roni[sz]\w*))?\b | assignments?\b | back-?ends?\b | upstream\b
        | licen[sc](?:e|ing)[ ](?:server|cloud|service|back-?end|definition|update|refresh|verification|check|sync)
        | entitlements?\b | refresh(?:ed|ing)?\b | renew(?:al|ed|ing)?\b | check-?in\b | cloud\b
    )""",
    re.VERBOSE,
)
_FAILURE = re.compile(
    r"""fail | error | exception | n't\b | x509 | connectex | <(?:!doctype|html|head|body)
    | \b(?: err(?:or|ors|oneous|no)?\b | fault | problem | trouble | panic | fatal | critical\b | crash | abort | cancel
        | denied\b | deny | den(?:ies|ial)\b | refus | reject | disallow | forbid | forbad | prohibit
        | block(?:ed|ing|s)?\b | unauthori | not[ -]authori | banned\b | revok | declin | unavailab | unreach
        | unable | unexpected | unknown\b | unresolv | unrecogni | unsuccess | unanswered | unrespons | unsupported
        | unusable | unfinished | uncompleted | unhealthy | unsuit | incomplete | impossible | invalid | inaccessib
        | interrupt | insufficient | incorrect | inabil | cannot\b | can[ ]?not\b | can'?t\b | not\b | never\b
        | no\b | none\b | nothing\b | nobody\b | without\b | neither\b | nor\b | lack(?:s|ing|ed)?\b | missing\b
        | missed\b | lost\b | loss\b | time-?outs?\b | tim(?:ed|ing|es)[ -]?out | time[ ]limit | deadline | expir
        | exceed | overdue\b | too[ ](?:long|many|much|late|slow|large|big|old) | late\b | delay | slow | stall
        | hang | hung\b | stuck\b | froze | retr(?:y|ies|ied|ying)\b | again\b | back(?:ing)?[ -]?off | postpon
        | defer | giv(?:e|es|en|ing)[ ]up | gave[ ]up | give[ -]up | abandon | quit(?:s|ting)?\b | skip
        | drop(?:ped|ping|s)?\b | broke | break(?:s|ing)?\b | bad\b | wrong | corrupt | garbage | garbled | malform
        | mismatch | disconnect | disabled\b | down\b | offline\b | dead\b | dies?\b | died\b | clos(?:ed|ing)\b
        | reset\b | halt | terminat | killed\b | stop(?:ped|s|ping)?\b | ended[ ]early | miscarri | collaps
        | bounced\b | cut\b | busy\b | overload | throttl | exhaust | rate[ -]limit | partial | pending\b | stale\b
        | outdated\b | obsolete\b | violat | degrad | warn | alert\b | doubt | unclear\b | undeliver | fell\b
        | fallback\b | fall(?:s|ing)?[ ]back | instead\b | only\b | despite\b | eof\b | tls: | dial[ ]tcp | wsa\w+:
        | (?:https?|status|code|answered|answers|returned|returns|replied|responded)[ ]?
            (?:with[ ]|code[ ]|status[ ]){0,3}[:=(]?[ ]? (?:40[0-9]|41[0-9]|42[0-9]|43[0-9]|451|5[0-9][0-9])\b
        | (?:0|no|none)[ ](?:\w+[ ])?(?:succeed|success\b|successes|synced|synchroni[sz]ed|completed)
    )""",
    re.VERBOSE,
)
# Words of the most common display languages of Windows. They also match within a word.
_FAILURE_ABROAD = re.compile(
    r"""fehl | ung[üu]ltig | verweiger | abgelehn | abgewies | zeit[üu]berschr | unerreich | getrennt | [ée]chec
    | [ée]chou | erreur | impossible | d[ée]lai | aucun | interromp | rejet | fall[óo]\b | fallid | rechaz | denegad
    | agotad | tiempo[ ]de[ ]espera | no[ ]se[ ]p[uo] | imposible | falh | recusad | negad | tempo[ ]limite
    | n[ãa]o\b | esgotad | errore | rifiutat | scadut | impossibile | misslyck | nekad | kunde[ ]inte | mislyk
    | virhe | ep[äa]onnistu | b[łl][ąa]d | odmow | nie[ ]mo | ошиб | отказ | не[ ]удал | истек
    | 失敗 | エラー | タイムアウト
    | 拒否 | できません | 错误 | 錯誤 | 失败 | 超时 | 拒绝 | 无法 | 오류 | 실패 | 거부
    | \b(?: nicht\b | kein | refus[ée] | pas\b | erro\b | non\b | ikke\b
    )""",
    re.VERBOSE,
)
_THINGS = (
    r"(?:errors?|failures?|fail|fails|failed|failing|problems?|faults?|exceptions?|warnings?|issues?|rejections?|rejected|refused|"
    r"denied|denials?|retr(?:y|ies)|skipped|dropped|lost|missing|missed|conflicts?|mismatch(?:es)?|time-?outs?|"
    r"time[ ]out|timed[ ]out|"
    r"hitch(?:es)?|glitch(?:es)?|incidents?|errs?|invalid|"
    r"unknown|unassigned|expired|stale|outdated|blocked|cancell?ed|aborted|interruptions?|changes?|differences?|delays?|"
    r"pending|left|remaining|trouble)"
)
# What denies a failure: `0 errors`, `errors=0`, `without any error`, `nothing failed`, `did not fail`.
_DENIED_FAILURE = re.compile(
    rf"""(?:\b(?:no|0|zero|none|without|nothing|nobody|never|free[ ]of|not[ ]a[ ]single|not[ ]one|not|didn't|doesn't)\b
        [ ](?:(?:of|the|them|it|was|were|is|are|has|have|had|been|any|further|more|other|new|single|a|an|to|
        user|users|assignment|assignments|request|requests|sync|network|license|entry|entries|record|records|item|items|
        and|or|did|reported|found|longer|encounter|encountered|see|find|have|meet|show|cause|report|be|during|in)\s+){{0,5}}
        {_THINGS}\b (?:\s*(?:,|and|or|nor)\s*(?:no[ ]|0[ ]|zero[ ])?{_THINGS}\b)*
        (?:\s+(?:found|reported|occurred|detected|seen|at[ ]all|any\s?more|required|needed|necessary))?)
    | (?:\b{_THINGS}["']?\s*[:=]\s*["']?(?:0|none|null|nil|false|no|zero|<nil>|\[\s*\]|\{{\s*\}})(?![\w.]))
    | (?:\b{_THINGS}(?:\s+\w+){{0,2}}\s*[:=]?\s*(?<!\w)(?:0|none|nil|null|zero)\b(?![.\w])(?:\s+(?:of|out[ ]of)\s+\d+)?
        (?=\s*(?:[,;)\]}}.]|$|\n|and\b)))
    | (?:\b0\s*(?:/|of|out[ ]of)\s*\d+\s+(?:\w+\s+)?{_THINGS}\b) | \bno[ ]need[ ](?:to[ ]\w+|for[ ]\w+)
    | (?:\b{_THINGS}\s+(?:none|nil|0)\b) | (?:\b{_THINGS}\s*\(\s*0\s*\))
    | (?:\b(?:error|failure|fault|trouble|problem)s?[- ]free\b)
    | (?:\bno[ ](?:changes?|need|action|updates?|new|differences?|longer|more)\b) | \bnot[ ]only\b | \bno\.\s?\d
    | (?:\bnothing[ ](?:to[ ](?:do|sync\w*|update|change)|new|changed|has[ ]changed|else)\b) | \bnot[ ]stale\b
    | (?:\bnot[ ](?:needed|necessary|required|changed|modified|expired|due)\b) | \b(?:304|200)[ ]not[ ]modified
    """,
    re.VERBOSE,
)
_DONE = re.compile(
    r"\b(?:done|finished|complet(?:e|ed|es|ion)|succe(?:ss|eds?|eded|ssful|ssfully)|ended|ok|okay|up[ -]to[ -]date|"
    r"synced|synchroni[sz]ed|stored|received|applied|took)\b"
)
_STARTED = re.compile(
    r"\b(?:start(?:ing|ed)(?: up)?|start-?up|boot(?:ing|ed)|launch(?:ed|ing)|initiali[sz](?:ed|ing|ation)|listening|"
    r"serving|up and running|accepting (?:connections|requests)|new (?:run|process|instance))\b"
)


_WORD = re.compile(r"[\w']+")
LONGEST_WORD = 100
"""Characters of a word that is remembered."""
_BEGINNINGS = frozenset(
    {
        "0",
        "none",
        "time",
        "timed",
        "timing",
        "times",
        "too",
        "give",
        "gives",
        "giving",
        "given",
        "gave",
        "hung",
        "fall",
        "falls",
    }
    | {"returned", "returns", "answered", "answers", "replied", "responded", "status", "code", "https"}
    | {"falling", "fell", "back", "ended", "http", "rate", "dial", "not", "no", "tls", "wsarecv", "wsasend", "without"}
)
"""First words of failures that consist of several words."""


@lru_cache(maxsize=1 << 15)
def _may_fail(word: str) -> bool:
    """Whether a text with `word` may be about a failure. Most texts have no such word and need no further check."""
    return bool(_FAILURE.search(word) or _FAILURE_ABROAD.search(word)) or word in _BEGINNINGS


def speaks_of_failure(text: str) -> bool:
    """Whether `text` contains words of failure that are not negated, as in `0 errors` or `nothing failed`."""
    text = text.lower()
    words = _WORD.findall(text)
    if "<" not in text and len(max(words, key=len, default="")) <= LONGEST_WORD and not any(map(_may_fail, words)):
        return False
    return bool(_FAILURE.search(left := _DENIED_FAILURE.sub(" ", text)) or _FAILURE_ABROAD.search(left))


def speaks_of_sync(text: str) -> bool:
    """Whether `text` contains words about the synchronisation with the backend."""
    return _SYNC.search(text.lower()) is not None


def speaks_of_end(text: str) -> bool:
    """Whether `text` says that something is over."""
    return _DONE.search(text.lower()) is not None


def speaks_of_start(text: str) -> bool:
    """Whether `text` says that the service has started."""
    return _STARTED.search(text.lower()) is not None and not speaks_of_sync(text)


_NOTHING_SAID = frozenset(
    {"", "0", "-", "none", "null", "nil", "<nil>", "false", "no", "ok", "success", "succeeded", "n/a", "[]", "{}"}
    | {"no error", "none found", "200", "unset", "undefined", "empty"}
)


def says_nothing(value: str) -> bool:
    """Whether the value of an error key means that there is no error: empty, `null`, `<nil>`, `0`, `no error`."""
    return value.strip().strip("\"'.").casefold() in _NOTHING_SAID


# --- incoming requests -----------------------------------------------------------------------------------------------

_REQUEST = re.compile(
    r"""\b(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS)\b["']?[ :=]+["']?/
    | \b(?:incoming|inbound)[ ](?:request|call|connection)s? | \bHTTP/\d(?:\.\d)?["']?[ ]\d\d\d\b
    | (?:^|[ "'(=:])/(?:v\d+|api|health|ready|metrics|licen[sc]es?|users?|assignments?|internal)(?:/|\b)""",
    re.VERBOSE,
)


def is_incoming(text: str) -> bool:
    """Whether `text` is about a request to this service: a method with a path of its own."""
    return _REQUEST.search(text) is not None


# --- addresses --------------------------------------------------------------------------------------------------------

_HOST = r"(?:\[[0-9A-Fa-f:.%\w]{2,}\]|[\w*][\w.-]*)"
_URL_HOST = re.compile(rf"\b(?:https?|wss?|tcp)://(?:[^\s/@\"']*@)?(?P<host>{_HOST})(?::(?P<port>\d+))?", re.IGNORECASE)
_PLAIN_HOST = re.compile(
    rf"(?<![\w.:/@\[-])(?P<host>{_HOST}):(?P<port>\d{{2,5}})(?![\w.:]*\])(?!\d)(?!->)", re.IGNORECASE
)
_LOOKED_UP = re.compile(rf"\blookup[ ](?P<host>{_HOST})", re.IGNORECASE)
_LOOPBACK = re.compile(r"(?<![\w.])(?:localhost|127(?:\.\d+){3}|::1)(?![\w.])", re.IGNORECASE)


def is_elsewhere(text: str, here: frozenset[str] = frozenset()) -> bool:
    """Whether every address in `text` is of this node or has one of Qlik's own ports, so that it is not about
    the backend.

    `here`: names of this node, in lower case. False if there is no address.
    """
    if "proxyconnect" in text.lower():
        return False  # the proxy may be on this node, and is part of the connection to the backend
    urls = list(_URL_HOST.finditer(text))
    found = urls or list(_LOOKED_UP.finditer(text)) or list(_PLAIN_HOST.finditer(text))
    if not found:
        return _LOOPBACK.search(text) is not None
    return all(_is_own(match["host"], match.groupdict().get("port"), here, bool(urls)) for match in found)


def _is_own(host: str, port: str | None, here: frozenset[str], is_url: bool) -> bool:
    name = host.strip("[]").partition("%")[0].rstrip(".").casefold()
    if name == "localhost" or name.endswith(".localhost") or name in here or name.partition(".")[0] in here:
        return True
    try:
        if ipaddress.ip_address(name).is_loopback:
            return True
    except ValueError:
        if is_url and "." not in name and ":" not in name:
            return True  # a name without a domain is a machine of the site, never the backend
    return port is not None and int(port) in QLIK_PORTS


# --- failed requests, as Go words them ---------------------------------------------------------------------------

_CONTACT = re.compile(
    r"""\b(?:Get|Head|Post|Put|Patch|Delete|Options|Connect)\b[ ]+
    (?:\\?"https?://[^"\\\s]*\\?":(?P<quoted>[^\n]*)|https?://[^\s"]*?:(?P<bare>(?:[ \t][^\n]*)?))$""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_PHRASES = frozenset(status.phrase.casefold() for status in http.HTTPStatus) | {
    "unknown status code", "request entity too large", "requested range not satisfiable", "request-uri too long",
}  # fmt: skip
_PAGE = re.compile(r"invalid character '<' looking for beginning of value|<(?:!doctype|html)", re.IGNORECASE)


def failed_contact(text: str) -> str | None:
    """The reason of a failed request as Go words it, `Post "https://…": REASON`; None for other texts.

    The reason may be empty: nothing follows the colon if a proxy refuses without a reason phrase.
    """
    match = _CONTACT.search(text)
    return (match["quoted"] or match["bare"] or "").strip() if match else None


def class_of_reason(reason: str) -> ErrorClass | None:
    """The error class of such a reason if it is that of a proxy or of another server; None otherwise.

    If a proxy refuses CONNECT, Go reports only the proxy's reason phrase (qlik-facts 1).
    """
    if not reason or reason.casefold().rstrip(".") in _PHRASES:
        return "proxy"
    if answered_by_stranger(reason):
        return "http"
    return None


def answered_by_stranger(text: str) -> bool:
    """Whether the response was a page where data was expected."""
    return _PAGE.search(text) is not None


# --- wordings --------------------------------------------------------------------------------------------------------

_VARIABLE = re.compile(r"\"[^\"]*\"|'[^']*'|\S*[\d@\\/=]\S*")


def wording_of(text: str) -> str:
    """A hash that equal wordings share: numbers, addresses, paths and quoted texts are ignored."""
    return hash_of(" ".join(_VARIABLE.sub("#", text[:500]).casefold().split()))


def contact_of(text: str) -> str:
    """A hash that failures of requests to the same address share; the local port is ignored."""
    return hash_of(" ".join(re.sub(r"\S+->", " ", text[:500]).casefold().split()))


def hash_of(text: str) -> str:
    """A short hash that does not reveal the text."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
