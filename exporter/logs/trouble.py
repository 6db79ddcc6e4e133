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

_SYNC = re.compile(
    r"""\b(?:re-?)?sync(?:h|s|ed|ing|(?:h?roni[sz]\w*))?\b | \bassignments?\b | \bback-?ends?\b | \bupstream\b
    | \blicen[sc](?:e|ing)[ ](?:server|cloud|service|back-?end|definition|update|refresh|verification|check|sync)
    | qlikcloud | \bentitlements?\b | \brefresh(?:ed|ing)?\b | \brenew(?:al|ed|ing)?\b | \bcheck-?in\b | \bcloud\b""",
    re.IGNORECASE | re.VERBOSE,
)
_FAILURE = re.compile(
    r"""fail | \berr(?:or|ors|oneous|no)?\b | error
    | \bfault | \bproblem | \btrouble | exception | \bpanic | \bfatal | \bcritical\b | \bcrash | \babort | \bcancel
    | \bdenied\b | \bdeny | \bden(?:ies|ial)\b | \brefus | \breject | \bdisallow | \bforbid | \bforbad | \bprohibit
    | \bblock(?:ed|ing|s)?\b | \bunauthori | \bnot[ -]authori | \bbanned\b | \brevok | \bdeclin
    | \bunavailab | \bunreach | \bunable | \bunexpected | \bunknown\b | \bunresolv | \bunrecogni | \bunsuccess
    | \bunanswered | \bunrespons | \bunsupported | \bunusable | \bunfinished | \buncompleted | \bunhealthy | \bunsuit
    | \bincomplete | \bimpossible | \binvalid | \binaccessib | \binterrupt | \binsufficient | \bincorrect | \binabil
    | \bcannot\b | \bcan[ ]?not\b | \bcan'?t\b | n't\b | \bnot\b | \bnever\b | \bno\b | \bnone\b | \bnothing\b
    | \bnobody\b
    | \bwithout\b | \bneither\b | \bnor\b | \black(?:s|ing|ed)?\b | \bmissing\b | \bmissed\b | \blost\b | \bloss\b
    | \btime-?outs?\b | \btim(?:ed|ing|es)[ -]?out | \btime[ ]limit | \bdeadline | \bexpir | \bexceed | \boverdue\b
    | \btoo[ ](?:long|many|much|late|slow|large|big|old) | \blate\b | \bdelay | \bslow | \bstall | \bhang | \bhung\b
    | \bstuck\b | \bfroze | \bretr(?:y|ies|ied|ying)\b | \bagain\b | \bback(?:ing)?[ -]?off | \bpostpon | \bdefer
    | \bgiv(?:e|es|en|ing)[ ]up | \bgave[ ]up | \bgive[ -]up | \babandon | \bquit(?:s|ting)?\b | \bskip
    | \bdrop(?:ped|ping|s)?\b | \bbroke | \bbreak(?:s|ing)?\b | \bbad\b | \bwrong | \bcorrupt | \bgarbage | \bgarbled
    | \bmalform | \bmismatch | \bdisconnect | \bdisabled\b | \bdown\b | \boffline\b | \bdead\b | \bdies?\b | \bdied\b
    | \bclos(?:ed|ing)\b | \breset\b | \bhalt | \bterminat | \bkilled\b | \bstop(?:ped|s|ping)?\b | \bended[ ]early
    | \bmiscarri | \bcollaps | \bbounced\b | \bcut\b | \bbusy\b | \boverload | \bthrottl | \bexhaust | \brate[ -]limit
    | \bpartial | \bpending\b | \bstale\b | \boutdated\b | \bobsolete\b | \bviolat | \bdegrad | \bwarn | \balert\b
    | \bdoubt | \bunclear\b | \bundeliver | \bfell\b | \bfallback\b | \bfall(?:s|ing)?[ ]back
    | \binstead\b | \bonly\b | \bdespite\b | \beof\b | x509 | \btls: | \bdial[ ]tcp | \bwsa\w+: | connectex
    | \b(?:https?|status|code|answered|answers|returned|returns|replied|responded)[ ]?
        (?:with[ ]|code[ ]|status[ ])*[:=(]?[ ]?
        (?:40[0-9]|41[0-9]|42[0-9]|43[0-9]|451|5[0-9][0-9])\b
    | \b(?:0|no|none)[ ](?:\w+[ ])?(?:succeed|success\b|successes|synced|synchroni[sz]ed|completed)
    | <(?:!doctype|html|head|body)""",
    re.IGNORECASE | re.VERBOSE,
)
# Words of the most common display languages of Windows. They also match within a word.
_FAILURE_ABROAD = re.compile(
    r"""fehl | ung[üu]ltig | verweiger | abgelehn | abgewies | zeit[üu]berschr | \bnicht\b | \bkein | unerreich
    | getrennt
    | [ée]chec | [ée]chou | erreur | \brefus[ée] | impossible | d[ée]lai | \bpas\b | aucun | interromp | rejet
    | fall[óo]\b | fallid | rechaz | denegad | agotad | tiempo[ ]de[ ]espera | no[ ]se[ ]p[uo] | imposible
    | \berro\b | falh | recusad | negad | tempo[ ]limite | n[ãa]o\b | esgotad | errore | rifiutat | scadut
    | impossibile
    | \bnon\b | misslyck | nekad | kunde[ ]inte | mislyk | \bikke\b | virhe | ep[äa]onnistu | b[łl][ąa]d
    | odmow | nie[ ]mo
    | ошиб | отказ | не[ ]удал | истек | 失敗 | エラー | タイムアウト | 拒否 | できません | 错误 | 錯誤 | 失败 | 超时
    | 拒绝 | 无法 | 오류 | 실패 | 거부""",
    re.IGNORECASE | re.VERBOSE,
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
    re.IGNORECASE | re.VERBOSE,
)
_DONE = re.compile(
    r"\b(?:done|finished|complet(?:e|ed|es|ion)|succe(?:ss|eds?|eded|ssful|ssfully)|ended|ok|okay|up[ -]to[ -]date|"
    r"synced|synchroni[sz]ed|stored|received|applied|took)\b",
    re.IGNORECASE,
)
_STARTED = re.compile(
    r"\b(?:start(?:ing|ed)(?: up)?|start-?up|boot(?:ing|ed)|launch(?:ed|ing)|initiali[sz](?:ed|ing|ation)|listening|"
    r"serving|up and running|accepting (?:connections|requests)|new (?:run|process|instance))\b",
    re.IGNORECASE,
)


_WORD = re.compile(r"[\w']+")
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
    return bool(_FAILURE.search(word) or _FAILURE_ABROAD.search(word)) or word.casefold() in _BEGINNINGS


def speaks_of_failure(text: str) -> bool:
    """Whether `text` contains words of failure that are not negated, as in `0 errors` or `nothing failed`."""
    if "<" not in text and not any(map(_may_fail, _WORD.findall(text))):
        return False
    return bool(_FAILURE.search(left := _DENIED_FAILURE.sub(" ", text)) or _FAILURE_ABROAD.search(left))


def speaks_of_sync(text: str) -> bool:
    """Whether `text` contains words about the synchronisation with the backend."""
    return _SYNC.search(text) is not None


def speaks_of_end(text: str) -> bool:
    """Whether `text` says that something is over."""
    return _DONE.search(text) is not None


def speaks_of_start(text: str) -> bool:
    """Whether `text` says that the service has started."""
    return _STARTED.search(text) is not None and not speaks_of_sync(text)


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
