"""Evaluation of Prometheus rules on given series, by promtool."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from deploy.local import REPOSITORY

RULES = REPOSITORY / "deploy/prometheus/alerts.yml"

#: Labels of every alert and every series.
_ALWAYS = {"alertname", "__name__"}


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, with one value a minute."""

    #: The time at which the rule is evaluated.
    at: str
    #: Series for which the alert must fire.
    bad: dict[str, str]
    #: Series for which the alert must not fire.
    good: dict[str, str]
    #: The labels of each alert that fires, without its severity.
    labels: tuple[dict[str, str], ...] = ({},)


def firing(alert: str, series: dict[str, str], at: str, directory: Path) -> list[dict[str, str]]:
    """Return the labels of each alert of this name that fires at a time."""
    # promtool evaluates all rules of a file at each interval. A single rule takes a tenth of the
    # time.
    (rule,) = (each for each in _rules() if each.get("alert") == alert)
    alone = directory / "rule.yml"
    alone.write_text(json.dumps({"groups": [{"name": alert, "rules": [rule]}]}))
    # promtool lists the alerts that fire only if it expected something else.
    expected = {"eval_time": at, "alertname": alert, "exp_alerts": []}
    report = mismatch(series, {"alert_rule_test": [expected]}, directory, rules=alone)
    if not report:
        return []
    _, _, got = report.partition("got:")
    assert got, report
    fired = [
        dict(re.findall(r'(\w+)="([^"]*)"', labels))
        for labels in re.findall(r"Labels:\{(.*?)\}", got)
    ]
    return [{n: v for n, v in labels.items() if n not in _ALWAYS} for labels in fired]


def mismatch(
    series: dict[str, str], expected: dict[str, Any], directory: Path, *, rules: Path = RULES
) -> str:
    """Return promtool's report of a mismatch, or an empty string if all is as expected."""
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": "15s",
        "tests": [{"interval": "1m", "input_series": inputs} | expected],
    }
    file = directory / "test.yml"
    file.write_text(json.dumps(document))
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: it is in the Debian package prometheus"
    done = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@cache
def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
