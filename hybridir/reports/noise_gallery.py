"""A page of what each kind of noise does in each language: python -m hybridir.reports.noise_gallery FOLDER."""

import sys
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

from hybridir.perturbations import PERTURBATIONS
from hybridir.perturbations.__main__ import visible
from hybridir.perturbations.letters import clusters, table
from hybridir.perturbations.perturbation import Severity
from hybridir.reports.html.pages import write_page
from hybridir.reports.html.parts import Block, Section, language_name, note
from hybridir.runtime.random_numbers import uniform_numbers

SEVERITIES: tuple[Severity, ...] = ("one", 0.1, 0.3)


def write_gallery(folder: Path) -> Path:
    """Writes `report.html` into a folder and returns its path."""
    texts: dict[str, str] = table("examples")
    parts = [_section(kind, texts) for kind in PERTURBATIONS]
    facts = (
        f"{len(PERTURBATIONS)} kinds of noise on a question in {len(texts)} languages; what is new is marked, ‸ stands "
        "where something is missing. The edits are drawn by chance, and are the same each time."
    )
    return write_page("Noise on questions", facts, [], parts, folder)


def _section(kind: str, texts: dict[str, str]) -> Section:
    one = PERTURBATIONS[kind]
    rows = [
        {"language": language_name(x), "code": x, "cells": [[(text, False)], *_changed(kind, x, text)]}
        for x, text in texts.items()
        if one.applies(x)
    ]
    columns = ["one edit" if severity == "one" else f"severity {severity}" for severity in SEVERITIES]
    block = Block("gallery.html", {"caption": kind, "columns": columns, "rows": rows})
    out = [language_name(x) for x in texts if not one.applies(x)]
    not_in = [note(f"Does not apply to {', '.join(out)}.")] if out else []
    return Section(kind, kind, f"{one.about[0].upper()}{one.about[1:]}. Edited: {one.unit}.", [block, *not_in])


def _changed(kind: str, language: str, text: str) -> list[list[tuple[str, bool]]]:
    """The text at each severity in pieces: (text, whether it is new)."""
    found = []
    for severity in SEVERITIES:
        new = PERTURBATIONS[kind].apply(text, language, uniform_numbers(1, 0, 0), severity)
        found.append(_pieces(clusters(text), clusters(new)))
    return found


def _pieces(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, bool]]:
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    pieces = []
    for how, i, j, k, end in matcher.get_opcodes():
        gone = "‸" if how == "delete" and j - i else ""
        pieces.append((visible("".join(new[k:end])) or gone, how != "equal"))
    return pieces


if __name__ == "__main__":
    print(write_gallery(Path(sys.argv[1])))
