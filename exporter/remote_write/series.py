"""The series of one sample set: what Prometheus would store after a scrape of this exporter. Pure."""

from collections.abc import Iterable, Mapping

from exporter.remote_write.encoding import STALE, Labels

JOB = "qlik-license"
"""The label `job` unless it is configured: the one that the shipped rules ask for."""

Sample = tuple[str, Mapping[str, str], float]
"""The name of a metric, its labels and its value."""


class SampleSets:
    """One sample set after another; knows which series the previous one had."""

    def __init__(self) -> None:
        self._previous: set[Labels] = set()

    def next(
        self, samples: Iterable[Sample] | None, target: Mapping[str, str], seconds: float
    ) -> list[tuple[Labels, float]]:
        """The series of the next set, with a stale marker for each that has ended since the previous one.

        `samples`: what a scrape would show; None if it would fail. `target`: the labels that a scrape configuration
        would add. `seconds`: how long it took.
        """
        scraped = {series_of(name, labels, target): value for name, labels, value in samples or ()}
        of_target = series_of("", {}, target)
        added = len([labels for labels in scraped if labels not in self._previous])
        # https://prometheus.io/docs/concepts/jobs_instances/#automatically-generated-labels-and-time-series
        report = {
            "up": float(samples is not None),
            "scrape_duration_seconds": seconds,
            "scrape_samples_scraped": float(len(scraped)),
            "scrape_samples_post_metric_relabeling": float(len(scraped)),
            "scrape_series_added": float(added),
        }
        current = scraped | {_sorted({"__name__": name, **dict(of_target)}): value for name, value in report.items()}
        ended = sorted(self._previous - current.keys())
        self._previous = set(current)
        return [*current.items(), *((labels, STALE) for labels in ended)]

    def end(self) -> list[tuple[Labels, float]]:
        """A stale marker for every series: nothing follows."""
        ended, self._previous = sorted(self._previous), set()
        return [(labels, STALE) for labels in ended]


def series_of(name: str, labels: Mapping[str, str], target: Mapping[str, str]) -> Labels:
    """The labels of a scraped series, as Prometheus stores them.

    The target's labels win: the same label of a sample becomes `exported_…`. Empty labels are none.
    """
    taken = dict(target)
    for label, value in sorted(labels.items()):
        while label in taken:
            label = f"exported_{label}"
        taken[label] = value
    return _sorted({"__name__": name, **taken})


def _sorted(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted((label, value) for label, value in labels.items() if value))
