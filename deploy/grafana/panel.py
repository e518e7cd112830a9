"""A panel of a dashboard as data, and its conversion to Grafana's format."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

#: A Prometheus data source of Grafana with any name: the dashboard has a menu of data sources.
_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")

#: The size of a panel, in Grafana's 24 columns and in its rows of 30 pixels.
_SPAN = 8
_HEIGHT = 8


@dataclass(frozen=True, kw_only=True)
class Query:
    """A line, or several lines that differ in their labels; `legend` is a template of labels."""

    expr: str
    legend: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Queries in one diagram; `unit` is Grafana's name of their unit."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A page of panels in rows, each with a title; `name` is the name of the file."""

    name: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]

    @property
    def panels(self) -> Sequence[Panel]:
        """All panels, in their order."""
        return [panel for _, panels in self.rows for panel in panels]


def to_json(page: Dashboard) -> str:
    """Return the dashboard as Grafana's JSON."""
    built = (
        dashboard.Dashboard(page.title)
        .uid(f"orders-{page.name}")
        .tags(["orders"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("source").label("source").type("prometheus"))
    )
    for title, panels in page.rows:
        built.with_row(dashboard.Row(title))
        for panel in panels:
            built.with_panel(_diagram(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _diagram(panel: Panel) -> timeseries.Panel:
    diagram = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .min(0)
        .datasource(_SOURCE)
        .span(_SPAN)
        .height(_HEIGHT)
    )
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        diagram.with_target(
            prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
        )
    return diagram
