"""Writes the dashboards to the files that Grafana reads: `python -m deploy.grafana`."""

from pathlib import Path

from deploy.grafana.dashboards import DASHBOARDS
from deploy.grafana.panel import to_json

for page in DASHBOARDS:
    Path(__file__).with_name(f"{page.name}.json").write_text(to_json(page))
