"""The table on the screen: in 80 columns, with names in full, and without a column that says the same as another."""

import io
from dataclasses import replace
from typing import Any

import pytest
from helpers import add_measures
from rich.console import Console

from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import SETTINGS
from hybridir.reports.tables import ResultsTable


def results(success: float) -> dict[str, Any]:
    values = {name: 0.25 for name, one in MEASURES.items() if one.main and "parallel" not in one.needs}
    found = {setting: values | {"success@1": success} for setting in SETTINGS}
    found["multilingual"] = found["multilingual"] | {"rank_distance": 12345.6}
    return found | {"languages": ["de", "en"]}


def shown(systems: dict[str, dict[str, Any]], width: int = 80) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(ResultsTable("sample", systems))
    return console.export_text().splitlines()


def test_long_names_are_whole() -> None:
    """Two runs that differ in the last letter of a long name do not look alike."""
    names = [f"outputs/train-20261129-010203-with-[red]-brackets-{n}" for n in "ab"]
    lines = shown(dict.fromkeys(names, results(0.5)))
    assert max(map(len, lines)) <= 80
    first = "".join(line.split("│")[1].strip() for line in lines if line.startswith("│"))
    whole = "".join(name + "".join(SETTINGS) for name in names)
    assert first in (whole, whole * 2)  # twice, where a measure was added
    text = "\n".join(lines)
    for title in ("mAP", "R@1 ", "R@10", "success@1", "nDCG@10", "rank", "distance", "12345.6"):
        assert title in text
    assert "…" not in text


def test_measures_that_are_added_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those without room in 80 columns stand in a second table, with their values; in 100 columns there is one."""
    add_measures(monkeypatch)
    monkeypatch.setitem(MEASURES, "last", replace(MEASURES["mAP"], title="Rank of the last answer", digits=1))
    found = results(0.5)
    found["multilingual"] = found["multilingual"] | {"last": 10560.0, "P@3": 0.333}
    for width, tables in ((80, 2), (200, 1)):
        lines = shown({"ours": found}, width)
        text = "\n".join(lines)
        assert max(map(len, lines)) <= width
        assert (text.count("ours"), text.count("sample")) == (tables, tables)
        assert all(text.count(value) == 1 for value in ("12345.6", "10560.0", "0.333"))
        assert all(word in text for word in ("last", "answer", "Precision", "distance"))
    assert "sample, further measures" in "\n".join(shown({"ours": found}))


@pytest.mark.parametrize("success", [0.25, 0.5])
def test_recall_at_1_is_shown_where_it_is_not_success(success: float) -> None:
    assert ("R@1 " in "\n".join(shown({"ours": results(success)}))) == (success != 0.25)


@pytest.mark.parametrize("last", [1.0, 0.9])
def test_recall_that_reaches_the_pool_is_left_out(last: float) -> None:
    """R@10 among ten passages or fewer is 1 for every system: a note says so. If one system is below 1, it is shown."""
    systems = {name: results(0.5) for name in ("ours", "BM25")}
    for one in systems.values():
        for setting in SETTINGS:
            one[setting] = one[setting] | {"R@10": 1.0, "R@1": 1.0}
    systems["BM25"]["multilingual"]["R@10"] = last
    text = "\n".join(shown(systems))
    told = "Left out, as 1 for every system in every setting: R@10."
    assert (told in text, text.count("R@10")) == (last == 1, 1)
    assert "R@1 " in text  # 1 is what a perfect system reaches


def test_one_language_shows_one_setting() -> None:
    """All settings are the same then, as on the page."""
    text = "\n".join(shown({"ours": results(0.5) | {"languages": ["en"], "crosslingual": {"n_queries": 0}}}))
    assert ("monolingual" in text, "multilingual" in text, "crosslingual" in text) == (True, False, False)
