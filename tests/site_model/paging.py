"""What the shipped alert rules page of a history, by Debian's promtool."""

import json
import subprocess
import tempfile
from pathlib import Path

from exporter.events import LOG_NAMES
from exporter.logs.messages import Catalogue
from exporter.metrics import families
from exporter.observation import LogFigures, Observation
from tests.site_model.judge import PAGED, observed
from tests.site_model.world import World

STEP = 300.0
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "qlik-license.rules.yml"
TARGET = {"job": "qlik-license", "site": "Lyon", "instance": "n1"}
_CRITICAL = 'ALERTS{alertstate="firing",severity="critical"}'


def paged(world: World) -> str:
    """`ok`, or what promtool finds: a lockout that was not paged a day before, or a page while all was well."""
    series = _series(world)
    tests = [
        {"eval_time": _span(at - PAGED - world.begin), "expr": f"clamp_max(count({_CRITICAL}), 1)",
         "exp_samples": [{"labels": "{}", "value": 1}]}
        for at in world.lockouts()
        if world.kind != "silent" and at - PAGED > world.begin + 3600 and world.is_clock_right(at - PAGED)
    ]  # fmt: skip
    tests += [
        {"eval_time": _span(at - world.begin), "expr": f"count({_CRITICAL}) or vector(0)",
         "exp_samples": [{"labels": "{}", "value": 0}]}
        for at in _calm(world)
    ]  # fmt: skip
    group = {
        "interval": _span(STEP),
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": tests,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "test.yml"
        content = {"rule_files": [str(RULES)], "evaluation_interval": _span(STEP), "tests": [group]}
        file.write_text(json.dumps(content))
        done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=600)
    return f"ok ({len(tests)} checks)" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]


def _calm(world: World) -> list[float]:
    """Instants at which the site had been in order for a day, and its clock right."""
    hours = [world.begin + 6 * 3600 * number for number in range(4, int((world.end - world.begin) / 6 / 3600))]
    return [
        at
        for at in hours
        if world.is_clock_right(at) and not any(begin < at and end > at - 86400 for begin, end in world.outages)
    ]


def _series(world: World) -> dict[str, str]:
    """The series of a scrape every five minutes, on a clock that begins at 0 as promtool's does."""
    catalogue = Catalogue()
    messages = {log: catalogue.names(log) for log in LOG_NAMES}
    found: dict[str, list[str]] = {}
    number = 0
    for now, state, rules in observed(world):
        if (now - world.begin) % STEP:
            continue
        state.caught_up.update(("licenses", "repository_audit"))
        node = world.node_time(now)
        logs = {log: LogFigures(files=1, listed=True, last_read=node) for log in LOG_NAMES}
        seen = Observation(now=node, rules=rules, state=state, counted=state, messages=messages, logs=logs)
        number += 1
        for family in families(seen):
            for sample in family.samples:
                if not sample.name.startswith(("qlik_license_sync", "qlik_license_stale", "qlik_license_lockout",
                                               "qlik_license_grace", "qlik_license_exporter_log_last")):  # fmt: skip
                    continue
                labels = {**sample.labels, **TARGET}
                name = sample.name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
                value = sample.value - world.begin if "_timestamp_" in sample.name else sample.value
                values = found.setdefault(name, ["_"] * (number - 1))
                values += ["stale" if values and values[-1] not in ("_", "stale") else "_"] * (number - 1 - len(values))
                values.append(f"{value:g}" if value == int(value) and abs(value) < 1e6 else f"{value:.3f}")
    target = ",".join(f'{key}="{value}"' for key, value in TARGET.items())
    return {f"up{{{target}}}": f"1x{number}", **{name: " ".join(["_", *values]) for name, values in found.items()}}


def _span(seconds: float) -> str:
    return f"{int(seconds // 60)}m"
