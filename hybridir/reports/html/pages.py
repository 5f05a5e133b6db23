"""Pages of runs, studies and tuning: a self-contained HTML file, a CSV behind each plot, tables in Markdown."""

from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any

from hybridir.reports.html import (
    comparisons,
    conditions,
    noise,
    sections,
    study_claims,
    study_plots,
    study_tables,
    tuning_page,
)
from hybridir.reports.html.bias_panel import bias
from hybridir.reports.html.learning import learning_curves
from hybridir.reports.html.pairs import pairs
from hybridir.reports.html.parts import Block, Section, render, to_markdown
from hybridir.reports.html.summary import head
from hybridir.runtime.durable import replace_text
from hybridir.runtime.tables import plain

StudySection = Callable[[dict[str, Any]], Section | None]
STUDY: tuple[StudySection, ...] = (
    study_claims.ledger,
    study_tables.plan,
    study_plots.trade_off,
    study_plots.over_x,
    study_tables.tables,
    conditions.of_arms,
    study_tables.languages,
    study_plots.curves,
    study_tables.bias,
    sections.provenance,
)
"""The sections of the page of a study, in order. A section without numbers is left out."""


TUNING: tuple[StudySection, ...] = (
    tuning_page.winner,
    tuning_page.on_test,
    study_plots.over_x,
    tuning_page.front,
    study_plots.trade_off,
    tuning_page.trials,
    study_tables.tables,
    study_plots.curves,
    sections.provenance,
)
"""The same for the page of tuning."""


def write_report(results: dict[str, Any], directory: Path) -> Path:
    """Writes `report.html`, `plots/*.csv` and `table.md` into `directory`, and returns the path of the page.

    `results` is the content of `results.json`; learning curves are read from `history.jsonl` in `directory`, if it is
    there. Sections without numbers are left out. The same results give the same bytes. `ValueError` if two systems
    have the same name.
    """
    others: dict[str, Any] = results.get("systems", {})
    if results["encoder"] in others:
        raise ValueError(f"{results['encoder']} is compared with a system of the same name: rename one of them")
    systems = {results["encoder"]: results} | {
        name: {"languages": results.get("languages", [])} | other for name, other in others.items()
    }
    found = [
        sections.headline(results, systems),
        comparisons.comparisons(results),
        conditions.of_systems(systems),
        noise.under_noise(results),
        noise.attacked(results),
        learning_curves(directory / "history.jsonl"),
        pairs(results, systems),
        sections.languages(results, systems),
        bias(results, systems),
        sections.examples(results),
        sections.provenance(results),
    ]
    data = results.get("validation", {}).get("of") if "training" in results else None
    title = f"Trained on {data}" if data else f"{results['benchmark']}: {results['encoder']}"
    above = head(results, comparisons.verdicts(results))
    return write_page(title, _facts(results), above, [part for part in found if part], directory)


def write_study(results: dict[str, Any], directory: Path, sections: Sequence[StudySection] = STUDY) -> Path:
    """Writes the page of a study, from the content of its `results.json`, as `write_report` does."""
    counts = f"{results['benchmark']} · {_count(results['arms'], 'arm')}"
    above = head(results, [study_claims.summary(results)], results.get("notes", []))
    return _write_arms(results, counts, above, sections, directory)


def write_tuning(results: dict[str, Any], directory: Path) -> Path:
    """Writes the page of tuning, from the content of its `results.json`, as `write_report` does."""
    above = head(results, [tuning_page.summary(results)])
    return _write_arms(results, _count(results["trials"], "point"), above, TUNING, directory)


def _write_arms(
    results: dict[str, Any], counts: str, above: Sequence[Block], sections: Sequence[StudySection], directory: Path
) -> Path:
    parts = [part for section in sections if (part := section(results))]
    facts = f"{counts} · {_count(results['seeds'], 'seed')} · {_facts(results)}"
    return write_page(results["title"], facts, above, parts, directory)


def _count(of: Sized, what: str) -> str:
    return f"{len(of)} {what}{'s' * (len(of) != 1)}"


def write_page(title: str, facts: str, above: Sequence[Block], parts: Sequence[Section], directory: Path) -> Path:
    """Writes `report.html`, `plots/*.csv` and `table.md` into `directory`, and returns the path of the page.

    `above` is what stands above the sections `parts`.
    """
    (directory / "plots").mkdir(parents=True, exist_ok=True)
    for sheet in (sheet for part in parts for block in part.blocks for sheet in block.sheets):
        replace_text(directory / "plots" / f"{sheet.name}.csv", sheet.to_csv())
    told = "\n".join(text for blocks in (above, *(part.blocks for part in parts)) if (text := to_markdown(blocks)))
    replace_text(directory / "table.md", f"# {plain(title)}\n\n{plain(facts)}\n\n{told}")
    page = directory / "report.html"
    values = {"title": title, "facts": facts, "head": above, "parts": parts}
    replace_text(page, render("page.html", values) + "\n")
    return page


def _facts(results: dict[str, Any]) -> str:
    made = results.get("provenance", {})
    sizes = (f"{size:,} {name}" for name, size in made.get("sizes", {}).items())
    day = str(made.get("time", ""))[:10]
    return " · ".join([_count(results.get("languages", []), "language"), *sizes, *([day] if day else [])])
