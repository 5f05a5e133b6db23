"""Validation metrics: the numbers that choose weights, end runs early and decide a tuning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import SETTINGS


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The mean of a measure over settings of retrieval, or the loss over the validation batches.

    Attributes:
        title: name in tables and plots.
        short: name where the setting need not be said twice, as in the header of a column.
        measure: key of `MEASURES`; "" for the loss.
        settings: the settings that count, each with the same weight; none for the loss.
    """

    title: str
    short: str
    measure: str = ""
    settings: tuple[str, ...] = ()

    @property
    def lower_is_better(self) -> bool:
        return not self.measure or MEASURES[self.measure].lower_is_better

    @property
    def needs_translations(self) -> bool:
        """Whether it is defined only for questions with answers in several languages."""
        return "crosslingual" in self.settings or "parallel" in (self.measure and MEASURES[self.measure].needs)

    def cost(self, value: float) -> float:
        """The value, negated if higher is better, so that the smallest cost wins."""
        return value if self.lower_is_better else -value


METRICS: dict[str, Metric] = {
    "monolingual": Metric(title="Monolingual mAP", short="mono", measure="mAP", settings=("monolingual",)),
    "crosslingual": Metric(title="Cross-lingual mAP", short="cross", measure="mAP", settings=("crosslingual",)),
    "multilingual": Metric(title="Multilingual mAP", short="multi", measure="mAP", settings=("multilingual",)),
    "mean": Metric(title="mean mAP of the three settings", short="mean", measure="mAP", settings=SETTINGS),
    "rank_distance": Metric(
        title="rank distance", short="distance", measure="rank_distance", settings=("multilingual",)
    ),
    "loss": Metric(title="validation loss", short="loss"),
}
"""All validation metrics. To add one, write a line here: `--validation.metric` takes it, and history, learning curves,
MLflow and the page of tuning show it."""

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[tuple(METRICS)]  # so that `--help` lists them


def full_name(name: str) -> str:
    """The metric's name in MLflow and in `results.json`."""
    return f"validation.mAP.{name}" if METRICS[name].measure == "mAP" else f"validation.{name}"


def known_values(found: Mapping[str, Any]) -> dict[str, float]:
    """The value of each metric in a validation result, which is `validation` of a line of `history.jsonl`."""
    values = {**found.get("mAP", {}), **found}
    return {name: float(values[name]) for name in METRICS if name in values}


def measured(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that `summary` (see `settings.summarise`) has: those of mAP under `mAP`, others by their names."""
    found: dict[str, Any] = {"mAP": {}}
    for name, metric in METRICS.items():
        values = [summary[setting][metric.measure] for setting in metric.settings if metric.measure in summary[setting]]
        if values and len(values) == len(metric.settings):
            (found["mAP"] if metric.measure == "mAP" else found)[name] = sum(values) / len(values)
    return found
