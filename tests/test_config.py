"""The configuration: strict, and clear about what is wrong."""

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import (
    BACKEND_PROBE,
    REPOSITORY_PROBE,
    Config,
    ConfigError,
    Duration,
    ProbeConfig,
    duration,
    load,
    local_path,
    masked,
    masked_yaml,
    parse,
    probes_of,
    redaction_of,
    state_file_of,
)
from exporter.probes.proxy import proxy_of

REFERENCE = Path(__file__).parent.parent / "deploy" / "qlik-license-exporter.yml"


def refusal(text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        parse(text, "f.yml", environ or {})
    assert "\n" not in str(error.value)
    return str(error.value)


def keys(tree: object, prefix: str = "") -> set[str]:
    if isinstance(tree, dict):
        return {prefix + key for key in tree} | {
            k for key, value in tree.items() for k in keys(value, f"{prefix}{key}.")
        }
    return {key for value in tree for key in keys(value, prefix)} if isinstance(tree, list) else set()


def test_the_reference_holds_every_field_at_its_default() -> None:
    config = load(str(REFERENCE), {})
    assert config == msgspec.structs.replace(parse("", "x", {}), probes=(BACKEND_PROBE,))
    written = keys(yaml.safe_load(REFERENCE.read_text()))
    wanted = keys(masked(config))
    assert wanted == written
    for message_key in ("name", "log", "match", "means"):
        assert f"{message_key}:" in REFERENCE.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("logs: {licenzes: {}}", "f.yml: logs.licenzes: unknown key; did you mean `licenses`?"),
        ("zzz: 1", "f.yml: zzz: unknown key; expected one of product, logs, poll_interval"),
        ("grace: 5d", "f.yml: grace: unknown key; did you mean `license.grace`?"),
        ("listen-addresses: []", "f.yml: listen-addresses: unknown key; did you mean `web.listen_addresses`?"),
        ("poll-interval: 5s", "f.yml: poll-interval: unknown key; did you mean `poll_interval`?"),
        (
            "expected_statuses: [1]",
            "f.yml: expected_statuses: unknown key; did you mean `probes[…].expected_statuses`?",
        ),
        ("qrs: {proxy: x}", "f.yml: qrs.proxy: unknown key; did you mean `probes[…].proxy`?"),
        ("probes: [{target: 'h:1', intervl: 3s}]", "f.yml: probes[0].intervl: unknown key; did you mean `interval`?"),
        ("poll_interval: 5", "f.yml: poll_interval: found the number `5`, expected a duration with its unit"),
        ("poll_interval: 5 s", "found `5 s`, expected a duration"),
        ("poll_interval: 0s", "f.yml: poll_interval: found `0s`, expected at least 100ms"),
        ("discovery_interval: 1ms", "f.yml: discovery_interval: found `1ms`, expected at least 100ms"),
        ("license: {grace: 10x}", "f.yml: license.grace: found `10x`, expected a duration"),
        (
            "license: {grace: 1m, settle: 2m}",
            "f.yml: license.settle: found `2m`, expected less than license.grace, which is 1m",
        ),
        ("license: {grace: 5s}", "f.yml: license.grace: found `5s`, expected more than license.settle, which is 90s"),
        ("license: {settle: 6d}", "f.yml: license.settle: found `6d`, expected less than license.grace, which is 5d"),
        ("license: {settle: 0s}", "f.yml: license.settle: found `0s`, expected more than 0"),
        ("qrs: {interval: 0s}", "f.yml: qrs.interval: found `0s`, expected at least 1s"),
        (
            "qrs: {seats_interval: 1m}",
            "f.yml: qrs.seats_interval: found `1m`, expected 0 (off), or at least qrs.interval, which is 5m",
        ),
        ("qrs: {interval: 0}", "f.yml: qrs.interval: found the number `0`, expected at least 1s"),
        ("qrs: {seats_interval: false}", "f.yml: qrs.seats_interval: found `false`, expected a duration"),
        ("qrs: {seats_interval: 0.5}", "f.yml: qrs.seats_interval: found the number `0.5`, expected a duration"),
        ("qrs: {max_age: 1m}", "f.yml: qrs.max_age: found `1m`, expected at least qrs.interval, which is 5m"),
        (
            "license: {kind: slk}",
            "f.yml: license.kind: found `slk`, expected one of `auto`, `signed_key`, `offline`, `lef`",
        ),
        ("history: all", "f.yml: history: found `all`, expected one of `restate`, `count`, `ignore`"),
        ("logs: {licenses: {enabled: maybe}}", "f.yml: logs.licenses.enabled: found `maybe`, expected true or false"),
        ("logs: {licenses: {paths: x}}", "f.yml: logs.licenses.paths: found `x`, expected a list"),
        ("logs: {licenses: {paths: [1]}}", "f.yml: logs.licenses.paths[0]: found the number `1`, expected text"),
        ("logs: {licenses: {paths: []}}", "f.yml: logs.licenses.paths: found no path"),
        ("logs: {licenses: {paths: ['', a]}}", "f.yml: logs.licenses.paths[0]: found an empty path"),
        ("logs: 5", "f.yml: logs: found the number `5`, expected a section with keys"),
        ("probes: 5", "f.yml: probes: found the number `5`, expected a list"),
        ("probes: [{role: backend}]", "f.yml: probes[0].target: not found, expected a value"),
        (
            "probes: [{target: license.qlikcloud.com}]",
            "f.yml: probes[0].target: found `license.qlikcloud.com`, expected host:port",
        ),
        ("probes: [{target: ':443'}]", "expected host:port"),
        ("probes: [{target: 'h:0'}]", "expected host:port"),
        ("probes: [{target: 'h:99999'}]", "expected host:port"),
        (
            "probes: [{target: 'h:1'}, {target: 'h:1'}]",
            "f.yml: probes[1].target: found `h:1`, expected a target that no other",
        ),
        ("probes: [{target: 'h:1', path: x}]", "f.yml: probes[0].path: found `x`, expected a path that begins with /"),
        ("probes: [{target: 'h:1', path: \"/a\\r\\nB: c\"}]", "f.yml: probes[0].path"),
        (
            "probes: [{target: 'h:1', expected_statuses: [42]}]",
            "f.yml: probes[0].expected_statuses[0]: found the number `42`",
        ),
        (
            "probes: [{target: 'h:1', expected_statuses: ['a']}]",
            "f.yml: probes[0].expected_statuses[0]: found `a`, expected a whole",
        ),
        (
            "probes: [{target: 'h:1', interval: 100ms}]",
            "f.yml: probes[0].interval: found `100ms`, expected at least 1s",
        ),
        ("probes: [{target: 'h:1', timeout: 0s}]", "f.yml: probes[0].timeout"),
        ("probes: [{target: 'h:1', ip_protocol: 4}]", "f.yml: probes[0].ip_protocol: found the number `4`"),
        ("qrs: {url: http://h}", "f.yml: qrs.url: found `http://h`, expected https://host:port"),
        ("qrs: {url: 'https://h?x=1'}", "f.yml: qrs.url: found `https://h?x=1`, expected https://host:port"),
        ("qrs: {sessions_url: 'https://h#x'}", "f.yml: qrs.sessions_url: found `https://h#x`, expected"),
        ("qrs: {user: me}", "f.yml: qrs.user: found something else, expected UserDirectory=INTERNAL; UserId=sa_api"),
        ("qrs: {interval: 1h}", "f.yml: qrs.interval: found `1h`, expected at most qrs.max_age, which is 30m"),
        ("web: {listen_addresses: ['x']}", "f.yml: web.listen_addresses[0]: found `x`, expected host:port"),
        ("web: {listen_addresses: ['[::1:5']}", "f.yml: web.listen_addresses[0]"),
        ("web: {listen_addresses: []}", "f.yml: web.listen_addresses: found an empty list"),
        (
            "messages: [{name: A, log: licenses, match: x, means: sync_failed}]",
            "f.yml: messages[0].name: found `A`, expected lower-case letters",
        ),
        (
            "messages: [{name: a, log: licenses, match: '(', means: sync_failed}]",
            "f.yml: messages[0].match: found `(`, expected a regular",
        ),
        (
            "messages: [{name: a, log: licenses, match: 'x*', means: sync_failed}]",
            "f.yml: messages[0].match: found `x*`, expected a pattern",
        ),
        (
            "messages: [{name: a, log: licenses, match: x, means: hope}]",
            "f.yml: messages[0].means: found `hope`, expected one of",
        ),
        (
            "messages: [{name: a, log: nolog, match: x, means: sync_failed}]",
            "f.yml: messages[0].log: found `nolog`, expected one of",
        ),
        ("a: 1\na: 2", "f.yml: line 2, column 1: not readable as YAML: the key `a` occurs twice"),
        ("web:\n\tx: 1", "f.yml: line 2, column 1: not readable as YAML"),
        ("a: [", "not readable as YAML"),
        ("[1]", "f.yml: found a list, expected keys"),
        ("text", "f.yml: found `text`, expected keys"),
        ("1: 2", "f.yml: 1: found the number `1` as a key, expected a name"),
        ("? [a]\n: 1", "f.yml"),
        ("--- 1\n--- 2", "f.yml"),
        ("!!python/object/apply:os.system ['true']", "not readable as YAML"),
        ("a: *nowhere", "f.yml: line 1, column 4: not readable as YAML: found an unknown alias, expected quotes"),
        ("lisence: {}", "f.yml: lisence: unknown key; did you mean `license`?"),
        ("HISTORY: count", "f.yml: HISTORY: unknown key; did you mean `history`?"),
        (f"license: {{grace: {'9' * 400}d}}", "expected a duration of at most 100 years"),
        ("license: &a {kind: *a}", "f.yml: found too many aliases, expected at most 10,000 values, 20 levels deep"),
        ("probes: &a [*a]", "f.yml: found too many aliases"),
        (
            "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10))]),
            "f.yml: found too many aliases",
        ),
        (f"a: {'[' * 5000}", "f.yml: found too many nested brackets, expected at most 20 levels"),
        ("poll_interval: 2026-01-01", "f.yml: poll_interval"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_used_is_one_line_that_names_file_key_found_and_expected(text: str, said: str) -> None:
    assert said in refusal(text)


def test_two_messages_of_one_name_are_refused() -> None:
    one = "{name: a, log: licenses, match: x, means: sync_failed}"
    assert "messages[1].name: found `a`, expected a name that no other message has" in refusal(
        f"messages: [{one}, {one}]"
    )


def test_secrets_come_from_the_environment_or_from_files_and_never_show(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    (tmp_path / "proxy").write_text("https://u:hunter4@proxy.invalid:3128")
    text = f"""
    qrs: {{key_password_file: '{tmp_path}/password', user: 'UserDirectory=CONTOSO; UserId=boss'}}
    probes:
      - {{target: 'a:1', proxy: '${{PROXY}}'}}
      - {{target: 'b:1', proxy_file: '{tmp_path}/proxy'}}
    """
    config = parse(text, "f.yml", {"PROXY": "http://user:hunter3@proxy.invalid:3128"})
    assert config.qrs.key_password == "hunter2"
    assert [probe.proxy for probe in config.probes or ()] == [
        "http://user:hunter3@proxy.invalid:3128",
        "https://u:hunter4@proxy.invalid:3128",
    ]
    shown = masked_yaml(config)
    assert "hunter" not in shown
    assert "boss" not in shown
    assert "proxy.invalid:3128" not in shown, "it is part of what the variable and the file hold"
    assert [probe["proxy"] for probe in masked(config)["probes"]] == ["${PROXY}", "<secret>"]


AWKWARD = [
    "p#ss",
    "100%41",
    "a@b:c/d",
    "ü?&=+ \t",
    "${HOME}",
    "'\"\\",
    "[1, 2]",
    "x: {y: 1}",
    "null",
    "%HOME%",
    ":",
    "%",
]


@pytest.mark.parametrize("value", AWKWARD)
def test_a_password_in_a_variable_arrives_exactly_within_a_proxys_address(value: str) -> None:
    def credentials(text: str, **environ: str) -> str:
        (probe,) = parse(f"probes: [{{target: 'h:1', proxy: '{text}'}}]", "f.yml", environ).probes or ()
        assert str(proxy_of(probe.proxy)) == "http://proxy.contoso.com:3128"
        return base64.b64decode(proxy_of(probe.proxy).credentials.basic.removeprefix("Basic ")).decode()

    assert credentials("http://user:${PW}@proxy.contoso.com:3128", PW=value) == f"user:{value}"
    assert credentials("http://user:a%23${PW}b@${HOST}:${PORT}", PW=value, HOST="proxy.contoso.com", PORT="3128") == (
        f"user:a#{value}b"
    )
    assert credentials("http://${LOGIN}@proxy.contoso.com:3128", LOGIN=f"user:{value}") == f"user:{value}"


@pytest.mark.parametrize("value", AWKWARD)
def test_what_a_variable_or_a_file_holds_is_data_wherever_it_stands(tmp_path: Path, value: str) -> None:
    (tmp_path / "password").write_text(f"{value}\n", encoding="utf-8")
    from_file = parse(f"qrs: {{key_password_file: '{tmp_path}/password'}}", "f.yml", {"HOME": "no"}).qrs
    assert from_file.key_password == value
    assert parse("qrs: {key_password: 'a${X}b'}", "f.yml", {"X": value}).qrs.key_password == f"a{value}b"
    if not value.isprintable():
        return
    environ = {"X": value, "HOME": "/root"}
    assert parse("qrs: {server_name: '${X}'}", "f.yml", environ).qrs.server_name == value
    taught = "messages: [{name: a, log: licenses, match: '^user ${X} (done|late)$', means: sync_failed}]"
    assert re.search(parse(taught, "f.yml", environ).messages[0].match, f"user {value} late")
    if "?" not in value:
        logs = parse("logs: {licenses: {paths: ['/a\\${X}/*.log'], archive: '${X}'}}", "f.yml", environ).logs
        assert logs.licenses.paths == (f"/a/{value}/*.log" if sys.platform != "win32" else f"/a\\{value}/*.log",)
        assert logs.licenses.archive == value


@pytest.mark.parametrize(
    ("text", "value", "said"),
    [
        ("logs: {licenses: {paths: ['${X}/a.log']}}", "/a*", "logs.licenses.paths[0]: found `*` in the value of ${X}"),
        (
            "logs: {licenses: {archive: '${X}'}}",
            "/a\nb",
            "logs.licenses.archive: found U+000A (line feed) in the value",
        ),
        ("qrs: {key_password_file: '/x/${X}'}", "a\nb", "qrs.key_password_file: found U+000A (line feed) in the value"),
        ("qrs: {key_password: '${X}'}", "a\udcff", "qrs.key_password: found U+DCFF"),
        ("qrs: {user: 'UserDirectory=${X}'}", "I; UserId=root", "qrs.user: found `;` in the value of ${X}"),
        ("qrs: {url: 'https://${X}:4242'}", "a/b", "qrs.url: found other characters in the value of ${X}"),
        ("qrs: {url: 'https://${X}:4242'}", "u@h", "qrs.url: found other characters in the value of ${X}"),
        ("qrs: {url: '${X}:4242'}", "https://u:p#@h", "qrs.url: found the beginning of an address in a variable"),
        ("probes: [{target: 'h:1', proxy: '${X}'}]", "http://u:p#@h:1", "probes[0].proxy: found something else"),
        ("probes: [{target: 'h:1', proxy: '${X}'}]", "http://a\nb:1", "probes[0].proxy: found something else"),
        ("probes: [{target: '${X}:1'}]", "a b", "probes[0].target: found `${X}:1`, expected host:port"),
    ],
)
def test_a_value_that_cannot_be_part_of_a_setting_is_refused_without_being_shown(
    text: str, value: str, said: str
) -> None:
    error = refusal(text, {"X": value})
    assert said in error
    assert value not in error


def filled_everywhere() -> Iterator[str]:
    """Configurations in which one value after the other of the reference is a variable."""
    tree = yaml.safe_load(REFERENCE.read_text())
    tree["messages"] = [{"name": "a", "log": "licenses", "match": "x", "means": "sync_failed"}]

    def places(node: object, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
        if way:
            yield way
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for step, child in children:
            yield from places(child, (*way, step))

    for way in places(tree):
        for written in ("${PASSWORD}", "a${PASSWORD}z", "http://u:${PASSWORD}@h", "${PASSWORD}:443", "${PASSWORD}s"):
            copy = yaml.safe_load(yaml.safe_dump(tree))
            here = copy
            for step in way[:-1]:
                here = here[step]
            here[way[-1]] = written
            yield yaml.safe_dump(copy)


@pytest.mark.slow
def test_the_value_of_a_variable_is_never_repeated_whatever_key_it_is_put_in() -> None:
    taken = refused = 0
    for text in filled_everywhere():
        try:
            config = parse(text, "f.yml", {"PASSWORD": "hunter4711"})
        except ConfigError as error:
            assert "4711" not in str(error)
            refused += 1
        else:
            assert "4711" not in masked_yaml(config)
            assert "${PASSWORD}" in masked_yaml(config)
            assert "4711" not in repr(config.provenance)
            assert "4711" not in redaction_of(config)(repr(config))
            taken += 1
    assert taken > 50
    assert refused > 150


def test_what_a_configuration_takes_from_elsewhere_is_taken_out_of_texts_that_name_it(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("hunter2hunter")
    text = f"""
    logs: {{licenses: {{archive: '${{SHARE}}\\old'}}}}
    qrs: {{key_password_file: '{tmp_path}/word'}}
    probes: [{{target: '${{HOST}}:443', proxy: 'http://u:literal@${{PROXY}}', role: '${{ROLE}}'}}]
    """
    environ = {"SHARE": r"\\files\qlik", "HOST": "Prod7.contoso.com", "PROXY": "proxy9:3128", "ROLE": "backend"}
    redact = redaction_of(parse(text, "f.yml", environ))
    assert redact("prod7.contoso.com cannot be resolved") == "${HOST} cannot be resolved"
    assert redact("the proxy http://proxy9:3128 refused") == "the proxy http://${PROXY} refused"
    assert redact("//files/qlik/old/x: hunter2hunter, literal") == r"${SHARE}\old/x: <secret>, <secret>"
    assert redact("the backend answers") == "the backend answers"


PUSH = "remote_write: {{url: 'https://h/w', labels: {{site: a}}, {}}}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("remote_write: {interval: 15s}", "remote_write.url: not found, expected the address of a receiver"),
        ("remote_write: {url: 'ftp://h/w'}", "remote_write.url: found `ftp://h/w`, expected https://host:port/path"),
        ("remote_write: {url: 'https://h/w?token=4711'}", "found ? or #, expected https://host:port/path"),
        ("remote_write: {url: 'https://u:4711@h/w'}", "found a user in the address, expected it in remote_write.basic"),
        (PUSH.format("interval: 500ms"), "remote_write.interval: found `500ms`, expected at least 1s"),
        (PUSH.format("intervall: 1s"), "remote_write.intervall: unknown key; did you mean `interval`?"),
        (
            PUSH.format("basic_auth: {usernam: u}"),
            "remote_write.basic_auth.usernam: unknown key; did you mean `username`?",
        ),
        (PUSH.format("basic_auth: {password: x}"), "remote_write.basic_auth.username: not found beside `password`"),
        (PUSH.format("basic_auth: {username: 'a:b', password: x}"), "basic_auth.username: found a colon"),
        (
            PUSH.format("basic_auth: {username: u, password: x, password_file: y}"),
            "remote_write.basic_auth.password_file: found beside `password`, expected only one of the two",
        ),
        (PUSH.format("basic_auth: {username: u, password_file: /none}"), "password_file: /none: cannot be read"),
        (PUSH.format("authorization: {type: Token}"), "remote_write.authorization.credentials: not found"),
        (PUSH.format("authorization: {credentials: 'ä'}"), "authorization.credentials: found a character that no"),
        (PUSH.format("authorization: {type: Basic, credentials: x}"), "expected one word such as Bearer; for a user"),
        (PUSH.format("authorization: {credentials: x, credentials_file: y}"), "found beside `credentials`"),
        (
            PUSH.format("basic_auth: {username: u, password: x}, authorization: {credentials: x}"),
            "remote_write.authorization: found beside `basic_auth`, expected only one of the two",
        ),
        (PUSH.format("tls_config: {insecure_skip_verify: true}"), "insecure_skip_verify: found `true`, expected false"),
        (PUSH.format("tls_config: {cert_file: /c}"), "tls_config.key_file: not found beside `cert_file`"),
        (PUSH.format("tls_config: {key_file: /c}"), "tls_config.cert_file: not found beside `key_file`"),
        ("remote_write: {url: 'http://h/w', tls_config: {ca_file: /c}}", "found beside a url with http://"),
        ("remote_write: {url: 'http://h/w', basic_auth: {username: u}}", "url: found http:// beside `basic_auth`"),
        (
            "remote_write: {url: 'http://h/w', headers: {X-Key: u}}",
            "url: found http:// beside `headers`, expected https",
        ),
        ("remote_write: {url: 'http://h/w', authorization: {credentials: u}}", "found http:// beside `authorization`"),
        (
            PUSH.format("proxy_url: 'socks5://p:1'"),
            "remote_write.proxy_url: found something else, expected http://host",
        ),
        (
            PUSH.format("proxy_url: 'http://u:4711@p:1/x'"),
            "remote_write.proxy_url: found something else, expected http",
        ),
        (
            "remote_write: {url: 'http://localhost/w', proxy_url: 'http://p:1', basic_auth: {username: u, password: x}}",
            "url: found http:// beside `basic_auth`",
        ),
        (PUSH.format("headers: {Content-Type: x}"), "remote_write.headers: found `Content-Type`, expected the name of"),
        (PUSH.format("headers: {authorization: x}"), "found `authorization`, expected the name of a header that the"),
        (PUSH.format("headers: {'X Y': x}"), "remote_write.headers: found `X Y`, expected the name of a header"),
        (PUSH.format("headers: {X-Key: 'ü'}"), "remote_write.headers.X-Key: found a character that no header"),
        ("remote_write: {url: 'https://h/w', labels: {site: 3}}", "labels.site: found the number `3`, expected text"),
        ("remote_write: {url: 'https://h/w', labels: {site: ''}}", "remote_write.labels.site: found an empty text"),
        ("remote_write: {url: 'https://h/w', labels: {__name__: a}}", "found the label `__name__`, expected letters"),
        ("remote_write: {url: 'https://h/w', labels: {'a-b': a}}", "found the label `a-b`, expected letters"),
        ("remote_write: {url: 'https://h/w', labels: [a]}", "remote_write.labels: found a list, expected a section"),
    ],
)
def test_what_remote_write_cannot_use_or_must_not_weaken_is_refused(text: str, said: str) -> None:
    error = refusal(text)
    assert said in error
    assert "4711" not in error


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9090", "[::1]:9090"])
def test_a_login_over_http_stays_on_this_machine(host: str) -> None:
    text = f"remote_write: {{url: 'http://{host}/w', basic_auth: {{username: u, password: x}}}}"
    assert parse(text, "f.yml", {}).remote_write.basic_auth.password == "x"


def test_what_remote_write_is_sent_with_never_shows(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from4711file\n")
    for key, text in (
        ("basic_auth: {username: user4711, password: pass4711}", "user4711 pass4711"),
        (f"authorization: {{credentials_file: '{tmp_path}/token'}}", "from4711file"),
        ("proxy_url: 'http://user4711:pass4711@proxy:3128'", "user4711 pass4711"),
    ):
        config = parse(PUSH.format(f"{key}, headers: {{X-Key: key4711}}"), "f.yml", {})
        for shown in (masked_yaml(config), redaction_of(config)(f"{text} key4711")):
            assert "4711" not in shown
    variables = PUSH.format("basic_auth: {username: '${U}', password: '${P}'}, headers: {X-Key: '${U}'}")
    tree = masked(parse(variables, "f.yml", {"U": "a", "P": "#"}))["remote_write"]
    assert (tree["basic_auth"]["username"], tree["basic_auth"]["password"]) == ("${U}", "${P}")
    assert tree["headers"] == {"X-Key": "${U}"}
    assert tree["labels"] == {"site": "a"}


DOUBLE_QUOTED = [
    ('state: {file: "D:\\Logs"}', "state.file: found U+2028 (line separator)"),
    ('state: {file: "D:\\Program"}', "state.file: found U+2029 (paragraph separator)"),
    ('state: {file: "D:\\new"}', "state.file: found U+000A (line feed)"),
    ('state: {file: "D:\\repository"}', "state.file: found U+000D (carriage return)"),
    ('state: {file: "D:\\trace"}', "state.file: found U+0009 (tab)"),
    ('state: {file: "D:\\0"}', "state.file: found U+0000 (NUL)"),
    ('state: {file: "D:\\N"}', "state.file: found U+0085 (next line)"),
    ('state: {file: "D:\\_x"}', "state.file: found U+00A0 (no-break space)"),
    ('state: {file: "D:\\x64"}', "state.file: found the escape `\\x`"),
    (
        'state: {file: "D:\\Qlik"}',
        "line 1, column 19: not readable as YAML: found the escape `\\Q` in the text of `file`",
    ),
    ('state: {file: "C:\\Users"}', "found the escape `\\U` in the text of `file`"),
    ('state: {file: "D:\\data\\"}\n', "found the escape `\\d` in the text of `file`"),
    ('state:\n  file: "D:/data\\"\n', 'found the escape `\\"` in the text of `file`'),
    ('logs: {licenses: {archive: "D:\\Logs"}}', "logs.licenses.archive: found U+2028"),
    ('logs: {licenses: {paths: ["D:\\new/*.log"]}}', "logs.licenses.paths[0]: found U+000A"),
    (
        'qrs: {certificate: "D:\\client.pem", ca_file: "D:\\root.pem"}',
        "found the escape `\\c` in the text of `certificate`",
    ),
    ('qrs: {key_password: "a\\nb"}', "qrs.key_password: found U+000A"),
    ('qrs: {key_password: "hunter\\4711"}', "found a backslash in the text of `key_password`"),
    ('messages: [{name: a, log: licenses, match: "\\bstale", means: sync_failed}]', "messages[0].match: found U+0008"),
]


@pytest.mark.parametrize(("text", "said"), DOUBLE_QUOTED)
def test_a_windows_path_in_double_quotes_is_refused_with_the_advice_of_single_ones(text: str, said: str) -> None:
    error = refusal(text)
    assert said in error
    assert r"expected single quotes, such as 'D:\Logs'" in error
    assert "4711" not in error


@pytest.mark.parametrize(
    "character", ["\u2028", "\u2029", "\u0085", "\u202e", "\u200b", "\ufeff", "\u2066", "\x7f", "\x9b"]
)
def test_a_character_that_is_not_seen_is_refused_by_its_name(character: str) -> None:
    for text in (f"logs: {{licenses: {{archive: 'a{character}b'}}}}", f"probes: [{{target: 'h{character}:1'}}]"):
        assert f"U+{ord(character):04X}" in refusal(text)


def test_single_quotes_and_escaped_backslashes_are_taken() -> None:
    config = parse("logs: {licenses: {archive: 'D:\\Logs', paths: [\"D:\\\\new\\\\*.log\"]}}", "f.yml", {})
    assert config.logs.licenses.archive == local_path(r"D:\Logs")
    assert config.logs.licenses.paths == (local_path(r"D:\new\*.log"),)
    assert parse(json.dumps({"state": {"file": "/Größe"}}), "f.yml", {}).state.file == "/Größe"


@pytest.mark.parametrize(
    "text",
    [
        "qrs: {key_password: 4711}",
        "qrs: {key_password: [4711]}",
        "probes: [{target: 'h:1', proxy: 'socks://u:4711@h'}]",
        "probes: [{target: 'h:1', proxy: 4711}]",
        "qrs: {url: 'https://u:4711@h'}",
        "probes: [{target: 'u:4711@h:1'}]",
        "qrs: {key_password: *hunter4711}",
        "qrs: {key_password: !hunter4711 x}",
        "qrs: {key_password: &hunter4711 x, key: &hunter4711 y, zzz: 1}",
    ],
)
def test_an_error_never_shows_a_secret(text: str) -> None:
    assert "4711" not in refusal(text)


def test_a_section_may_be_merged_into_another() -> None:
    text = "probes: [&first {target: 'a:1', role: backend}, {<<: *first, target: 'b:2'}]"
    assert [(probe.target, probe.role) for probe in parse(text, "f.yml", {}).probes or ()] == [
        ("a:1", "backend"),
        ("b:2", "backend"),
    ]


@pytest.mark.parametrize("pattern", ["(a+)+$", "(?:x*y*)*z", "(a|a)+b", "((ab+)c)*d", r"(\w+\s?)+$", "(a+){30}b"])
def test_a_pattern_that_may_never_end_is_refused(pattern: str) -> None:
    said = refusal(f"messages: [{{name: a, log: licenses, match: '{pattern}', means: sync_failed}}]")
    assert f"messages[0].match: found `{pattern}`, expected no repeat of what itself repeats" in said


@pytest.mark.parametrize(
    "pattern", ["(?:a|b) is up to date", r"took \(\d+ms\)+", "[(+)*]+ done", "(abc)+d", "x{2,3}.*y"]
)
def test_a_pattern_that_ends_is_taken(pattern: str) -> None:
    message = {"name": "a", "log": "licenses", "match": pattern, "means": "sync_failed"}
    assert parse(yaml.safe_dump({"messages": [message]}), "f.yml", {}).messages[0].match == pattern


def test_a_login_at_a_proxy_is_data_and_never_shows(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p@ss:%41#\n")
    login = f"proxy_user: 'CONTOSO\\svc', proxy_password_file: '{tmp_path}/password'"
    config = parse(f"probes: [{{target: 'h:1', {login}}}]", "f.yml", {})
    (probe,) = config.probes or ()
    assert (probe.proxy_user, probe.proxy_password) == (r"CONTOSO\svc", "p@ss:%41#")
    for shown in (masked_yaml(config), redaction_of(config)(r"as CONTOSO\svc with p@ss:%41#")):
        assert "svc" not in shown
        assert "p@ss" not in shown
    variables = parse(
        "probes: [{target: 'h:1', proxy_user: '${U}', proxy_password: '${P}'}]", "f.yml", {"U": "a", "P": "#"}
    )
    assert masked(variables)["probes"][0]["proxy_user"] == "${U}"
    assert masked(variables)["probes"][0]["proxy_password"] == "${P}"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("proxy_user: a", "probes[0].proxy_password: not found beside `proxy_user`, expected both or neither"),
        ("proxy_password: a", "probes[0].proxy_user: not found beside `proxy_password`, expected both or neither"),
        ("proxy_user: a, proxy_password: b, proxy: none", "found beside `proxy: none`"),
        ("proxy_user: a, proxy_password: b, proxy: 'http://c:d@p:1'", "found beside a user in `proxy`"),
        ("proxy_user: a, proxy_password: b, proxy_password_file: c", "found beside `proxy_password`"),
    ],
)
def test_half_a_login_at_a_proxy_or_two_are_refused(keys: str, said: str) -> None:
    assert said in refusal(f"probes: [{{target: 'h:1', {keys}}}]")


@pytest.mark.parametrize("product", ["nprinting", "qlikview"])
def test_another_product_has_the_logs_that_are_configured_and_no_repository(product: str) -> None:
    config = parse(f"{{product: {product}, logs: {{licenses: {{paths: ['/l/*.log']}}}}}}", "f.yml", {})
    assert [name for name, _ in config.logs.enabled()] == ["licenses"]
    assert probes_of(config, {}) == (BACKEND_PROBE,)
    with_audit = (
        f"{{product: {product}, logs: {{licenses: {{enabled: false}}, repository_audit: {{paths: ['/a/*']}}}}}}"
    )
    assert [name for name, _ in parse(with_audit, "f.yml", {}).logs.enabled()] == ["repository_audit"]
    for text in (f"product: {product}", f"{{product: {product}, logs: {{licenses: {{archive: /x}}}}}}"):
        said = refusal(text)
        assert "logs.licenses.paths: not found, expected the files of the Licenses log of" in said
    said = refusal(f"{{product: {product}, logs: {{licenses: {{paths: ['/l/*.log']}}}}, qrs: {{enabled: true}}}}")
    assert "qrs.enabled: found true, expected false" in said
    assert "has no Repository" in said


def test_a_product_that_is_not_known_is_refused() -> None:
    assert "product: found `qliksense`, expected one of" in refusal("product: qliksense")


def test_a_missing_variable_or_secret_file_is_named(tmp_path: Path) -> None:
    assert "probes[0].proxy: the environment variable NOPE is not set" in refusal(
        "probes: [{target: 'h:1', proxy: '${NOPE}'}]"
    )
    said = refusal(f"qrs: {{key_password_file: '{tmp_path}/none'}}")
    assert "qrs.key_password_file" in said
    assert "No such file" in said
    assert "only one of the two" in refusal(f"qrs: {{key_password: a, key_password_file: '{tmp_path}/none'}}")
    assert "only one of the two" in refusal(f"probes: [{{target: 'h:1', proxy: none, proxy_file: '{tmp_path}/none'}}]")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(str(tmp_path / "none.yml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load(str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(str(tmp_path / "binary"))
    (tmp_path / "large").write_bytes(b"#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger than"):
        load(str(tmp_path / "large"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_from_notepad_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "c.yml").write_bytes("license:\r\n  kind: offline\r\n".encode(encoding))
    assert load(str(tmp_path / "c.yml"), {}).license.kind == "offline"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("logs:\n", "logs"),
        ("license:\n  # grace: 5d\nprobes: []\n", "license"),
        ("probes:\n", "probes"),
        ("probes: ~\n", "probes"),
        ("qrs:\n  enabled:\n", "qrs.enabled"),
        ("probes:\n  -\n", "probes[0]"),
        ("probes:\n  - target: a:1\n    proxy:\n", "probes[0].proxy"),
        ("web:\n  listen_addresses:\n    - ':1'\n    -\n", "web.listen_addresses[1]"),
    ],
)
def test_a_key_with_nothing_behind_it_is_an_error_that_names_it(text: str, key: str) -> None:
    with pytest.raises(ConfigError, match="found nothing, expected a value; omit the key for its default") as failure:
        parse(text, "x", {})
    assert failure.value.key == key


def test_durations_read_and_show_as_they_are_written() -> None:
    assert [duration(text) for text in ("500ms", "30s", "5m", "26h", "5d", "1h30m", "1.5s")] == [
        0.5,
        30,
        300,
        93600,
        432000,
        5400,
        1.5,
    ]
    assert [str(Duration(seconds)) for seconds in (0.5, 30, 300, 93600, 432000, 90)] == [
        "500ms",
        "30s",
        "5m",
        "26h",
        "5d",
        "90s",
    ]


@settings(deadline=None)
@given(st.one_of(st.text(), st.integers(), st.none(), st.floats()))
def test_whatever_is_no_duration_is_refused_and_nothing_else_happens(value: object) -> None:
    try:
        assert duration(value) >= 0
    except ValueError as error:
        assert "a duration with its unit" in str(error)


@settings(deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(
                    ["logs", "licenses", "paths", "probes", "target", "qrs", "license", "grace", "web", "x"]
                ),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=12,
    )
)
def test_any_tree_is_a_configuration_or_one_clear_error(tree: object) -> None:
    try:
        parsed = parse(yaml.safe_dump(tree), "f.yml", {})
        assert isinstance(parsed, Config)
    except ConfigError as error:
        assert str(error).startswith("f.yml: ")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_one_clear_error(text: str) -> None:
    try:
        assert isinstance(parse(text, "f.yml", {}), Config)
    except ConfigError as error:
        assert str(error).startswith("f.yml: ")


def test_hazard_39_paths_take_both_slashes_and_windows_variables() -> None:
    environ = {"PROGRAMDATA": r"D:\Data"}
    path = r"%ProgramData%\Qlik\a[1]/*.txt"
    assert local_path(path, environ, "win32") == r"D:\Data\Qlik\a[1]/*.txt"
    assert local_path(path, environ, "linux") == "D:/Data/Qlik/a[1]/*.txt"
    assert local_path("%unknown%/x", {}, "linux") == "%unknown%/x"
    assert local_path("%ProgramData%", {}, "win32") == r"C:\ProgramData"


def test_the_local_repository_is_probed_where_its_folder_is_found(tmp_path: Path) -> None:
    environ = {"ProgramData": str(tmp_path)}
    assert probes_of(parse("", "x", environ), environ) == (BACKEND_PROBE,)
    (tmp_path / "Qlik" / "Sense" / "Log" / "Repository").mkdir(parents=True)
    assert probes_of(parse("", "x", environ), environ) == (BACKEND_PROBE, REPOSITORY_PROBE)
    assert probes_of(parse("probes: []", "x", environ), environ) == ()


def test_the_state_file_is_where_each_system_keeps_state(tmp_path: Path) -> None:
    config = parse("", "x", {})
    assert str(state_file_of(config, {}, "win32")) == r"C:\ProgramData\qlik-license-exporter\state.db"
    assert state_file_of(config, {"STATE_DIRECTORY": "/s/x:/t"}, "linux") == Path("/s/x/state.db")
    assert state_file_of(config, {"XDG_STATE_HOME": "/x"}, "linux") == Path("/x/qlik-license-exporter/state.db")
    assert state_file_of(config, {}, "linux") == Path("/var/lib/qlik-license-exporter/state.db")
    assert state_file_of(parse("state: {file: /y/z.db}", "x", {}), {}, "linux") == Path("/y/z.db")


def test_a_target_gives_its_host_and_port() -> None:
    probe = ProbeConfig(target="[::1]:443")
    assert (probe.host, probe.port) == ("::1", 443)
