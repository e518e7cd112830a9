"""The dashboards that are committed are those that the code makes."""

from pathlib import Path

import pytest

from deploy.grafana.dashboards import DASHBOARDS
from deploy.grafana.panel import Dashboard, to_json

DIRECTORY = Path(__file__).parents[3] / "deploy/grafana"


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.name)
def test_the_committed_dashboard_is_what_the_code_makes(page: Dashboard) -> None:
    committed = (DIRECTORY / f"{page.name}.json").read_text()

    assert committed == to_json(page), "run: .venv/bin/python -m deploy.grafana"


def test_no_other_dashboard_is_committed() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.json")} == {page.name for page in DASHBOARDS}


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.name)
def test_no_two_panels_of_a_dashboard_have_the_same_title(page: Dashboard) -> None:
    titles = [panel.title for panel in page.panels]

    assert len(set(titles)) == len(titles)
