"""The Alertmanager configuration: accepted by amtool, routes by severity, mutes repeats, and writes messages for a phone."""

import email
import email.policy
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_programs import MailServer, Webhook, alertmanager, eventually, fetched, posted
from shipped import ALERTMANAGER, Alert, alerts, output, parsed

CONFIG: dict[str, Any] = parsed(ALERTMANAGER)
RECEIVERS = {"critical": "pager", "warning": "ticket", "info": "nobody"}
SITE = {"job": "qlik-license", "site": "Lyon"}
NOWHERE = {"job": "qlik-license"}
NODE = {**SITE, "instance": "node1:10188"}
NODE_LEVEL = [
    "SyncNotAttempted",
    "SyncUnknown",
    "BackendErrors",
    "BackendUnreachable",
    "BackendFlapping",
    "TlsIntercepted",
    "CertificateExpiring",
    "ClockSkew",
    "ProbeStalled",
    "RepositoryDown",
    "LocalServiceDown",
    "UnknownErrors",
    "LogSilent",
    "LogUnreadable",
    "LogLagging",
    "StateNotSaved",
    "ConfigReloadFailed",
    "ExporterRestarting",
    "SyncUnclear",
    "ProbeNeverSucceeded",
    "ProbeNotJudged",
    "ScrapedTooSeldom",
]


def test_amtool_accepts_the_configuration_and_the_templates() -> None:
    assert "1 templates" in output("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize(("severity", "receiver"), RECEIVERS.items())
def test_a_severity_goes_to_its_receiver(severity: str, receiver: str) -> None:
    arguments = [f"--config.file={ALERTMANAGER}", f"--verify.receivers={receiver}", f"severity={severity}"]
    output("amtool", "config", "routes", "test", *arguments, "alertname=QlikLicenseStale", "site=Lyon")


def test_no_secret_and_no_foreign_address_stands_in_the_configuration() -> None:
    urls = [hook["url"] for receiver in CONFIG["receivers"] for hook in receiver.get("webhook_configs", [])]
    assert urls
    assert all(url.startswith("http://127.0.0.1:") for url in urls)
    assert not re.search(r"(password|api_url|token|secret): ", ALERTMANAGER.read_text())


def test_every_name_in_the_inhibition_rules_is_an_alert_that_is_shipped() -> None:
    shipped = {alert.name for alert in alerts()}
    for rule in CONFIG["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            if matcher.startswith("alertname="):
                prefix, _, options = matcher.removeprefix("alertname=").strip('~"').partition("(")
                for option in options.rstrip(")").split("|"):
                    assert [name for name in shipped if re.fullmatch(prefix + option, name)], prefix + option


def test_every_inhibition_asks_for_the_same_site() -> None:
    assert all({"job", "site"} <= set(rule["equal"]) for rule in CONFIG["inhibit_rules"])


def test_alertmanager_mutes_what_repeats_a_known_cause(tmp_path: Path) -> None:
    def muted(url: str, firing: list[dict[str, str]]) -> set[tuple[str, str, str]]:
        posted(f"{url}/api/v2/alerts", [{"labels": labels} for labels in firing])
        wanted = {(each["alertname"], each["severity"], each.get("site", "")) for each in firing}

        def shown() -> set[tuple[str, str, str]]:
            """The muted ones, once every alert has been judged."""
            found = yaml.safe_load(fetched(f"{url}/api/v2/alerts") or "[]")
            judged = {
                (each["labels"]["alertname"], each["labels"]["severity"], each["labels"].get("site", "")): each[
                    "status"
                ]
                for each in found
            }
            if not wanted <= judged.keys() or any(status["state"] == "unprocessed" for status in judged.values()):
                return set()
            return {key for key, status in judged.items() if status["inhibitedBy"]}

        # The inhibitor learns of the alerts by itself, so that what it mutes may come a moment later.
        def settled() -> set[tuple[str, str, str]]:
            before = shown()
            time.sleep(0.5)
            return before if before == shown() else set()

        return eventually("every alert was judged, and some are muted", settled)

    def alert(name: str, severity: str, site: dict[str, str] = SITE, **labels: str) -> dict[str, str]:
        return {"alertname": f"QlikLicense{name}", "severity": severity, **site, **labels}

    paris = {"job": "qlik-license", "site": "Paris"}
    rome = {"job": "qlik-license", "site": "Rome"}
    config = tmp_path / "alertmanager.yml"
    quick = (
        ALERTMANAGER.read_text()
        .replace("group_wait: 30s", "group_wait: 1s")
        .replace("group_wait: 15s", "group_wait: 1s")
    )
    config.write_text(quick.replace("templates/*", str(ALERTMANAGER.parent / "templates" / "*")))
    lyon = [
        alert("Stale", "critical"),
        alert("LockoutImminent", "critical"),
        alert("SyncFailing", "warning"),
        alert("BackendUnreachable", "warning", NODE, target="b:443", role="backend"),
        alert("AccessDeniedMassive", "critical", reason="no_access_pass"),
        alert("RepositoryDown", "critical", NODE, target="l:4242", role="repository"),
    ]
    at_paris = [
        alert("SyncFailing", "warning", paris),
        alert("Expired", "critical", paris),
        alert("ExpiringSoon", "critical", paris),
        alert("ParallelSessions", "info", paris, reason="parallel_sessions"),
    ]
    at_rome = [
        alert("ExporterDown", "warning", rome, instance="n1"),
        alert("ExporterDown", "critical", rome, instance="n1"),
        alert("Stale", "critical", rome),
        alert("LogSilent", "warning", rome, instance="n1", log="licenses"),
        alert("ClockSkew", "warning", rome, instance="n2"),
    ]
    # Two nodes whose targets lack the label: what is known of one explains nothing of the other.
    without_site = [
        alert("Stale", "critical", NOWHERE, instance="n1"),
        alert("LockoutImminent", "critical", NOWHERE, instance="n1"),
        alert("BackendErrors", "warning", NOWHERE, instance="n2"),
        alert("SyncFailing", "warning", NOWHERE, instance="n2"),
        alert("AccessDeniedMassive", "critical", NOWHERE, instance="n2", reason="no_access_pass"),
    ]
    with alertmanager(tmp_path, config) as url:
        quiet = {
            (name.removeprefix("QlikLicense"), severity, site)
            for name, severity, site in muted(url, lyon + at_paris + at_rome + without_site)
        }
    assert quiet == {
        ("LockoutImminent", "critical", "Lyon"),
        ("SyncFailing", "warning", "Lyon"),
        ("BackendUnreachable", "warning", "Lyon"),
        ("AccessDeniedMassive", "critical", "Lyon"),
        ("ExpiringSoon", "critical", "Paris"),
        ("ExporterDown", "warning", "Rome"),
        ("LogSilent", "warning", "Rome"),
        ("LockoutImminent", "critical", ""),
    }


@pytest.mark.parametrize("name", NODE_LEVEL)
def test_an_exporter_that_is_down_mutes_what_it_cannot_know_of_its_node(name: str) -> None:
    (rule,) = [rule for rule in CONFIG["inhibit_rules"] if "ExporterRestarting" in str(rule["target_matchers"])]
    (matcher,) = rule["target_matchers"]
    pattern = matcher.removeprefix('alertname=~"').removesuffix('"')
    assert re.fullmatch(pattern, f"QlikLicense{name}")
    for known in ("Stale", "StaleUnconfirmed", "LockoutImminent", "ContactLost", "ExporterDown", "Expired"):
        assert not re.fullmatch(pattern, f"QlikLicense{known}")
    assert rule["equal"] == ["job", "site", "instance"]


def example(kind: str) -> dict[str, Any]:
    """The commented example of a receiver, as YAML reads it."""
    lines = ALERTMANAGER.read_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line == f"    # {kind}:")
    block = [lines[start]]
    for line in lines[start + 1 :]:
        if not line.startswith("    #   "):
            break
        block.append(line)
    (receiver,) = yaml.safe_load("\n".join(line.removeprefix("    # ") for line in block))[kind]
    return dict(receiver)


@pytest.mark.slow
def test_the_messages_say_what_is_wrong_since_when_what_users_see_and_what_to_do_first(tmp_path: Path) -> None:
    stale = next(alert for alert in alerts() if alert.name == "QlikLicenseStale")
    filled = {key: re.sub(r"\{\{.*?\}\}", "Lyon", value) for key, value in stale.annotations.items()}
    filled |= {
        "runbook_url": f"http://node1:10188/runbooks/{stale.name}",
        "dashboard_url": "http://grafana.example/d/health",
    }
    with Webhook() as chat, MailServer() as mails:
        slack = example("slack_configs")
        slack.pop("api_url_file")
        mail = {
            **example("email_configs"),
            "smarthost": mails.address,
            "from": "alertmanager@mail.example",
            "require_tls": False,
        }
        config = tmp_path / "alertmanager.yml"
        config.write_text(
            yaml.safe_dump(
                {
                    "templates": [str(ALERTMANAGER.parent / "templates" / "*.tmpl")],
                    "route": {
                        "receiver": "both",
                        "group_by": ["alertname"],
                        "group_wait": "100ms",
                        "group_interval": "1s",
                    },
                    "receivers": [
                        {
                            "name": "both",
                            "slack_configs": [{**slack, "api_url": f"{chat.url}/chat"}],
                            "email_configs": [mail],
                        }
                    ],
                }
            )
        )
        labels = {"alertname": stale.name, "severity": "critical", **NODE}
        firing = {"labels": labels, "annotations": filled, "startsAt": "2026-01-20T08:13:32Z"}
        with alertmanager(tmp_path, config) as url:
            posted(f"{url}/api/v2/alerts", [firing])
            eventually("the chat message came", lambda: chat.received)
            eventually("the mail came", lambda: mails.received)
            posted(f"{url}/api/v2/alerts", [{**firing, "endsAt": "2026-01-20T09:00:00Z"}])
            eventually("the chat heard of the end", lambda: len(chat.received) > 1)
            eventually("the mail told the end", lambda: len(mails.received) > 1)
    message = chat.received[0][1]["attachments"][0]
    assert message["title"] == f"CRITICAL: {filled['summary']}"
    assert message["title_link"] == filled["runbook_url"]
    parsed = email.message_from_string(mails.received[0], policy=email.policy.default)
    assert parsed["Subject"] == f"CRITICAL: {filled['summary']}"
    plain, html = parsed.get_body(("plain",)), parsed.get_body(("html",))
    assert plain is not None
    assert html is not None
    for text in (message["text"], plain.get_content(), html.get_content()):
        words = re.sub(r"\s+", " ", re.sub(r"<(?!http).*?>|&#?\w+;|[\"']", " ", text))
        for wanted in ("20 Jan", "08:13 UTC", filled["users_see"], filled["first_step"], filled["summary"]):
            assert re.sub(r"[\"'\s]+", " ", wanted).strip() in words, (wanted, words)
        assert filled["runbook_url"] in text
        assert filled["dashboard_url"] in text
    longest = max(len(line) for line in message["text"].splitlines() if "http" not in line)
    assert longest < 280, "three or four lines on a phone"
    over = chat.received[1][1]["attachments"][0]
    assert over["title"] == f"RESOLVED: {filled['summary']}"
    assert "Resolved 20 Jan 09:00 UTC" in over["text"]
    assert "Resolved 20 Jan 2026 09:00 UTC" in mails.received[1]


def test_the_title_counts_the_other_nodes_of_a_group(tmp_path: Path) -> None:
    alert = {"status": "firing", "annotations": {"summary": "The clock of node1 is wrong"}}
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"status": "firing", "commonLabels": {"severity": "warning"}, "alerts": [alert] * 3}))
    arguments = [f"--template.glob={ALERTMANAGER.parent}/templates/*.tmpl", f"--template.data={data}"]
    title = output("amtool", "template", "render", *arguments, '--template.text={{ template "qlik.title" . }}')
    assert title.strip() == "WARNING: The clock of node1 is wrong (and 2 more)"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: f"{alert.name}-{alert.severity}")
def test_every_shipped_alert_has_a_severity_that_is_routed(alert: Alert) -> None:
    assert alert.severity in RECEIVERS
