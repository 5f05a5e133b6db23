"""Pages of evaluations, studies and tuning: a self-contained HTML file, a CSV behind each plot, tables in Markdown."""

from collections.abc import Callable, Sequence, Sized
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from hybridir.reports.html import sections, study_claims, study_plots, study_tables, tuning_page
from hybridir.reports.html.bias_panel import bias
from hybridir.reports.html.comparisons import comparisons
from hybridir.reports.html.pairs import pairs
from hybridir.reports.html.parts import Section
from hybridir.runtime.durable import replace_text

StudySection = Callable[[dict[str, Any]], Section | None]
STUDY: tuple[StudySection, ...] = (
    study_claims.about,
    study_tables.plan,
    study_claims.ledger,
    study_plots.trade_off,
    study_plots.over_x,
    study_tables.tables,
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

    `results` is the content of `results.json`. Sections without numbers are left out. The same results give the same
    bytes. `ValueError` if two systems have the same name.
    """
    others: dict[str, Any] = results.get("systems", {})
    if results["encoder"] in others:
        raise ValueError(f"{results['encoder']} is compared with a system of the same name: rename one of them")
    systems = {results["encoder"]: results} | {
        name: {"languages": results.get("languages", [])} | other for name, other in others.items()
    }
    found = [
        sections.headline(results, systems),
        comparisons(results),
        pairs(results, systems),
        sections.languages(results, systems),
        bias(results, systems),
        sections.examples(results),
        sections.provenance(results),
    ]
    title = f"{results['benchmark']}: {results['encoder']}"
    return write_page(title, _facts(results), [part for part in found if part], directory)


def write_study(results: dict[str, Any], directory: Path, sections: Sequence[StudySection] = STUDY) -> Path:
    """Writes the page of a study, from the content of its `results.json`, as `write_report` does."""
    return _write_arms(results, f"{results['benchmark']} · {_count(results['arms'], 'arm')}", sections, directory)


def write_tuning(results: dict[str, Any], directory: Path) -> Path:
    """Writes the page of tuning, from the content of its `results.json`, as `write_report` does."""
    return _write_arms(results, _count(results["trials"], "point"), TUNING, directory)


def _write_arms(results: dict[str, Any], counts: str, sections: Sequence[StudySection], directory: Path) -> Path:
    parts = [part for section in sections if (part := section(results))]
    facts = f"{counts} · {_count(results['seeds'], 'seed')} · {_facts(results)}"
    return write_page(results["title"], facts, parts, directory)


def _count(of: Sized, what: str) -> str:
    return f"{len(of)} {what}{'s' * (len(of) != 1)}"


def write_page(title: str, facts: str, parts: Sequence[Section], directory: Path) -> Path:
    """Writes `report.html`, `plots/*.csv` and `table.md` into `directory`, and returns the path of the page."""
    (directory / "plots").mkdir(parents=True, exist_ok=True)
    for sheet in (sheet for part in parts for sheet in part.sheets):
        replace_text(directory / "plots" / f"{sheet.name}.csv", sheet.to_csv())
    told = "\n".join(text for part in parts if (text := part.to_markdown()))
    replace_text(directory / "table.md", f"# {title}\n\n{facts}\n\n{told}")
    page = directory / "report.html"
    replace_text(page, _page(title, facts, parts))
    return page


def _facts(results: dict[str, Any]) -> str:
    made = results.get("provenance", {})
    n_languages = len(results.get("languages", []))
    sizes = (f"{size:,} {name}" for name, size in made.get("sizes", {}).items())
    day = str(made.get("time", ""))[:10]
    words = [f"{n_languages} language{'s' * (n_languages != 1)}", *sizes, *([day] if day else [])]
    return " · ".join(words)


def _page(title: str, facts: str, parts: Sequence[Section]) -> str:
    style = files("hybridir.reports.html").joinpath("style.css").read_text(encoding="utf-8")
    links = "".join(f'<li><a href="#{part.id}">{escape(part.title)}</a></li>' for part in parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n<style>\n{style}</style>\n'
        f"</head>\n<body>\n<header><h1>{escape(title)}</h1>\n<p>{escape(facts)}</p>\n"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>\n{''.join(part.to_html() for part in parts)}</main>\n</body>\n</html>\n"
    )
