"""The committed dashboards match the code that generates them."""

from pathlib import Path

import pytest

from deploy.grafana.dashboards import DASHBOARDS
from deploy.grafana.panel import Dashboard, to_json

DIRECTORY = Path(__file__).parents[3] / "deploy/grafana"


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.name)
def test_a_committed_dashboard_matches_the_code(page: Dashboard) -> None:
    committed = (DIRECTORY / f"{page.name}.json").read_text()

    assert committed == to_json(page), "run: .venv/bin/python -m deploy.grafana"


def test_no_other_dashboard_is_committed() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.json")} == {page.name for page in DASHBOARDS}


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.name)
def test_the_titles_of_a_dashboards_panels_are_unique(page: Dashboard) -> None:
    titles = [panel.title for panel in page.panels]

    assert len(set(titles)) == len(titles)
