"""The house style of the boards: what every board, panel and query has in common; the only user of the SDK's options.

Colours come from Grafana's named palette, which reads on dark and on light; a colour never stands alone: beside it is a
word (value mappings), a number or a line's name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from exporter import metrics
from grafana.limits import Steps
from grafana.queries import firing

TAG = "qlik-license"
DATA_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOKS = (
    'query_result(label_replace(qlik_license_exporter_build_info{job=~"$job", site=~"$site"}, '
    '"runbooks", "http://$1/runbooks", "instance", "(.*)"))'
)
"""Where the runbooks are read: an exporter of the chosen sites that answers; for the hidden variable `runbooks`."""

Words = Mapping[int, tuple[str, str]]
"""A word and a colour for each value of a metric."""

REACHED: Words = {0: ("Cut off", "red"), 1: ("Reachable", "green")}
"""What a probe's success reads as."""

NO_LIMIT: Steps = ((None, "blue"),)


DAY_UNIT = "time:YYYY-MM-DD"
"""Grafana's unit for a date, of milliseconds since 1970."""


def query(expression: str, legend: str = "__auto", *, name: str = "A") -> prometheus.Dataquery:
    """A query over the board's time range."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(name).datasource(DATA_SOURCE).range()


def query_now(expression: str, legend: str = "__auto", *, name: str = "A") -> prometheus.Dataquery:
    """A query at the end of the board's time range."""
    return query(expression, legend, name=name).instant()


def query_rows(expression: str, *, name: str = "A") -> prometheus.Dataquery:
    """A query whose series become the rows of a table."""
    return query_now(expression, name=name).format(PromQueryFormat.TABLE)


def steps(thresholds: Steps) -> dashboard.ThresholdsConfig:
    """Thresholds as Grafana wants them."""
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=colour) for value, colour in thresholds])
    )


def words(texts: Words) -> list[models.ValueMapping]:
    """Value mappings: a word and a colour for each number."""
    return [
        models.ValueMap(
            options={
                f"{value:g}": models.ValueMappingResult(text=text, color=colour, index=index)
                for index, (value, (text, colour)) in enumerate(texts.items())
            }
        )
    ]


def words_below(limit: float, text: str, colour: str) -> list[models.ValueMapping]:
    """A value mapping: everything up to `limit` reads as `text`."""
    result = models.ValueMappingResult(text=text, color=colour, index=0)
    return [models.RangeMap(options=models.DashboardRangeMapOptions(from_val=None, to=limit, result=result))]


def properties(**values: Any) -> list[models.DynamicConfigValue]:
    """Field overrides; a name's `__` stands for the dot of Grafana's own."""
    return [models.DynamicConfigValue(id_val=name.replace("__", "."), value=value) for name, value in values.items()]


def fixed(colour: str) -> models.FieldColor:
    """Always this colour."""
    return models.FieldColor(mode=models.FieldColorModeId.FIXED, fixed_color=colour)


def runbook(alert: str) -> dashboard.DashboardLink:
    """A link to the page of an alert."""
    return (
        dashboard.DashboardLink(f"Runbook: {alert}")
        .type(models.DashboardLinkType.LINK)
        .url(f"${{runbooks}}/{alert}")
        .target_blank(True)
    )


def runbooks(*alerts: str) -> list[Builder[models.DashboardLink]]:
    """Links to the pages of alerts."""
    return [runbook(alert) for alert in alerts]


@dataclass(frozen=True)
class About:
    """What every panel must say of itself."""

    title: str
    description: str
    unit: str
    no_data: str
    alerts: tuple[str, ...] = ()


def _describe(panel: Any, about: About, width: int, height: int, queries: Sequence[prometheus.Dataquery]) -> Any:
    panel.title(about.title).description(about.description).unit(about.unit).no_value(about.no_data)
    panel.datasource(DATA_SOURCE).span(width).height(height).links(runbooks(*about.alerts))
    for each in queries:
        panel.with_target(each)
    return panel


def number(
    about: About, width: int, height: int, *queries: prometheus.Dataquery, thresholds: Steps, area: bool = False
) -> stat.Panel:
    """One number, or one for each series, large; with `area` the panel's whole ground takes the colour.

    It is asked for at the end of the time range only: the last one of a silent exporter would look alive.
    """
    panel: stat.Panel = _describe(stat.Panel(), about, width, height, [each.instant() for each in queries])
    mode = common_models.BigValueColorMode
    return (
        panel.thresholds(steps(thresholds))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .color_mode(mode.BACKGROUND_SOLID if area else mode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(common_models.BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _graph(about: About, width: int, height: int, queries: Sequence[prometheus.Dataquery]) -> timeseries.Panel:
    panel: timeseries.Panel = _describe(timeseries.Panel(), about, width, height, queries)
    return (
        panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )


def lines(
    about: About, width: int, height: int, *queries: prometheus.Dataquery, limits: Steps = ()
) -> timeseries.Panel:
    """Lines over time; `limits` are drawn as dashed lines."""
    panel = _graph(about, width, height, queries).line_width(2).fill_opacity(8)
    panel.show_points(common_models.VisibilityMode.NEVER)
    if limits:
        panel.thresholds(steps(limits))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED))
    return panel


def bars(about: About, width: int, height: int, *queries: prometheus.Dataquery) -> timeseries.Panel:
    """Stacked bars: how often something happened in each interval."""
    return (
        _graph(about, width, height, queries)
        .draw_style(common_models.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .line_width(0)
        .bar_width_factor(0.9)
        .stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
        .min(0)
    )


def layers(about: About, width: int, height: int, *queries: prometheus.Dataquery) -> timeseries.Panel:
    """Areas on top of each other: parts of a whole."""
    return (
        _graph(about, width, height, queries)
        .fill_opacity(50)
        .line_width(1)
        .show_points(common_models.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
        .min(0)
    )


def meters(about: About, width: int, height: int, *queries: prometheus.Dataquery, thresholds: Steps) -> bargauge.Panel:
    """A horizontal bar from nothing to all for each series, at the end of the time range as in `number`."""
    panel: bargauge.Panel = _describe(bargauge.Panel(), about, width, height, [each.instant() for each in queries])
    return (
        panel.thresholds(steps(thresholds))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .value_mode(common_models.BarGaugeValueMode.TEXT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .min(0)
        .max(1)
    )


def states(about: About, width: int, height: int, *queries: prometheus.Dataquery) -> statetimeline.Panel:
    """What was the case when: one row for each series, with words for values."""
    panel: statetimeline.Panel = _describe(statetimeline.Panel(), about, width, height, queries)
    return (
        panel.show_value(common_models.VisibilityMode.AUTO)
        .merge_values(True)
        .fill_opacity(85)
        .line_width(0)
        .row_height(0.86)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.SINGLE))
    )


def rows(about: About, width: int, height: int, *queries: prometheus.Dataquery) -> table.Panel:
    """A table; the queries, of the kind query_rows, are joined by their labels."""
    panel: table.Panel = _describe(table.Panel(), about, width, height, queries)
    return panel.show_header(True).cell_height(common_models.TableCellHeight.SM)


@dataclass(frozen=True)
class Column:
    """How a table shows one field: its title, and what its values mean."""

    title: str
    width: int = 0
    """In pixels; 0 shares what is left."""
    unit: str = ""
    decimals: int | None = None
    words: Words | None = None
    steps: Steps = ()
    below_zero: str = ""
    """What a negative number reads as."""
    ground: bool = False
    """The cell takes the colour, not only its text."""


def columns(panel: table.Panel, shown: Mapping[str, Column], hidden: Sequence[str] = ()) -> table.Panel:
    """Join a table's queries and show these fields, in this order; `hidden` ones disappear, empty cells read as "–"."""
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(("Time", "job", *hidden), True),
                "indexByName": {name: index for index, name in enumerate(shown)},
                "renameByName": {name: column.title for name, column in shown.items()},
            },
        )
    )
    for column in shown.values():
        panel.override_by_name(column.title, _column_properties(column))
    return panel


def _column_properties(column: Column) -> list[models.DynamicConfigValue]:
    empty = models.ValueMappingResult(text="–", color="text", index=99)
    mappings: list[models.ValueMapping] = [
        models.SpecialValueMap(
            options=models.DashboardSpecialValueMapOptions(match=models.SpecialValueMatch.NULL_AND_NAN, result=empty)
        )
    ]
    values: dict[str, Any] = {"noValue": "–"}
    if column.words:
        mappings += words(column.words)
    if column.below_zero:
        mappings += words_below(0, column.below_zero, "red")
    if column.unit:
        values["unit"] = column.unit
    if column.decimals is not None:
        values["decimals"] = column.decimals
    if column.width:
        values["custom__width"] = column.width
    if column.steps:
        values["thresholds"] = steps(column.steps).build()
        values["color"] = {"mode": "thresholds"}
    if column.words or column.steps:
        kind = common_models.TableCellDisplayMode
        values["custom__cellOptions"] = (
            {"type": kind.COLOR_BACKGROUND, "mode": "basic"} if column.ground else {"type": kind.COLOR_TEXT}
        )
    return properties(mappings=mappings, custom__align="left", **values)


def _chosen(name: str, label: str, source: str, all_value: str | None, many: bool) -> dashboard.QueryVariable:
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .query({"query": f"label_values({source}, {name})", "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .datasource(DATA_SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(many)
    )
    if all_value:
        variable.all_value(all_value)
    return variable


EVERY_EXPORTER = metrics.BUILD_INFO.name


SEVERITIES: Words = {3: ("critical", "red"), 2: ("warning", "orange"), 1: ("info", "blue")}


def firing_alerts(height: int, *, many_sites: bool = False) -> table.Panel:
    """The alerts that fire now, info included, the worst first, each with its runbook."""
    ranked = " or ".join(f"{rank} * {firing(severity)}" for rank, (severity, _) in SEVERITIES.items())
    panel = rows(
        About(
            "Alerts firing now",
            "What Prometheus' rules report about the chosen sites and nodes, the worst first. Alerts of "
            "severity info appear only here. A click on an alert opens its runbook.",
            "none",
            "No alert is firing, or Prometheus has no rules",
        ),
        24,
        height,
        query_rows(f"sort_desc(max by (alertname, severity, site, instance, target) ({ranked}))"),
    )
    shown = {
        "Value": Column("Severity", width=90, words=SEVERITIES, ground=True),
        "alertname": Column("Alert", width=300),
        **({"site": Column("Site", width=140)} if many_sites else {}),
        "instance": Column("Node"),
        "target": Column("Target"),
    }
    columns(panel, shown, hidden=("severity",) if many_sites else ("severity", "site"))
    page = {"title": "Runbook", "url": "${runbooks}/${__value.text}", "targetBlank": True}
    return panel.override_by_name("Alert", properties(links=[page]))


def variables(*, one_site: bool) -> list[Builder[models.VariableModel]]:
    """Data source, job, site, instance. A board about one site has no "All" for it.

    "All" of a site also means exporters without a label `site`. "All" of a job is not offered: it would take in `up` of
    everything Prometheus watches.
    """
    site = _chosen("site", "Site", f'{EVERY_EXPORTER}{{job=~"$job"}}', ".*", not one_site).include_all(not one_site)
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _chosen("job", "Job", EVERY_EXPORTER, ".+", True),
        site,
        _chosen("instance", "Instance", f'{EVERY_EXPORTER}{{job=~"$job", site=~"$site"}}', ".+", True)
        .include_all(True)
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"])),
        dashboard.QueryVariable("runbooks")
        .label("Runbooks")
        .query({"query": RUNBOOKS, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .datasource(DATA_SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .regex('/runbooks="([^"]*)"/')
        .hide(models.VariableHide.HIDE_VARIABLE),
    ]


@dataclass(frozen=True)
class Mark:
    """An annotation: a moment or a while, marked on every graph of a board."""

    name: str
    colour: str
    expression: str


def annotations(marks: Sequence[Mark]) -> list[Builder[models.AnnotationQuery]]:
    """The marks as Grafana wants them."""
    return [
        dashboard.AnnotationQuery()
        .name(mark.name)
        .datasource(DATA_SOURCE)
        .enable(True)
        .icon_color(mark.colour)
        .expr(mark.expression)
        for mark in marks
    ]


def board(
    uid: str, title: str, description: str, period: str, *, one_site: bool = False, marks: Sequence[Mark] = ()
) -> dashboard.Dashboard:
    """An empty board with everything that all of them share."""
    others = (
        dashboard.DashboardLink("Boards")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .tooltip("The other boards of qlik-license-exporter, for the same sites and time")
        .include_vars(True)
        .keep_time(True)
    )
    guide = (
        dashboard.DashboardLink("Runbooks")
        .type(models.DashboardLinkType.LINK)
        .icon("doc")
        .url("${runbooks}/")
        .tooltip("What each alert means and what to do")
        .target_blank(True)
    )
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time(f"now-{period}", "now")
        .timezone("browser")
        .refresh("1m")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .variables(variables(one_site=one_site))
        .annotations(annotations(marks))
        .links([others, guide])
    )
