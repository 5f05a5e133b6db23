"""A picture of a run: mAP by query and passage language before and after training, and the learning curve.

    python -m hybridir.reports.picture RUN OUT.svg

`RUN` is the output folder of a training run. The file needs no other, and can be read on a light and on a dark page.
"""

import json
import sys
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hybridir.reports.html.charts import axis, lines
from hybridir.reports.html.learning import loss_curves
from hybridir.reports.html.pairs import Pairs, pair_values
from hybridir.reports.html.parts import number, render
from hybridir.reports.html.plots import VIRIDIS, colour, draw, limits, svg
from hybridir.runtime.durable import replace_text
from hybridir.runtime.history import read_history

_SIDE, _LEFT, _TOP, _GAP = 286, 30, 66, 24
"""Size of a heat map, its distance from the left and from the top, and the gap to the next drawing."""


def picture(results: dict[str, Any], history: list[dict[str, Any]]) -> Markup:
    """The picture as SVG, from `results.json` and the lines of `history.jsonl` of a training run.

    `ValueError` if the run was measured in one language only.
    """
    before = results["systems"]["untrained"]
    found = [pair_values(results, one) for one in (before, results)]
    if len(results["languages"]) < 2 or not all(found):
        raise ValueError("the run was not measured with questions and passages of several languages: nothing to draw")
    ends = limits([value for values in found for value in values.values()])
    step = _LEFT + _SIDE + _GAP
    parts = [draw('<rect class="page" width="100%" height="100%"/><style>{}</style>', Markup(_style()))]
    for n, (title, one) in enumerate((("before training", before), ("after", results))):
        caption = f"{title}: cross-lingual mAP {number(one['crosslingual']['mAP'])}"
        parts.append(_map(caption, found[n], results["languages"], ends, n * step))
    parts.append(_scale(ends, _LEFT, _TOP + _SIDE + 14))
    curves = loss_curves(history)
    y = axis("loss", [value for curve in curves for _, value in curve.points])
    drawn = lines("loss by step", curves, axis("steps", [0, history[-1]["step"] + 1]), y)
    parts.append(draw('<g transform="translate({} {}) scale(.85)">{}</g>', 2 * step, 42, drawn))
    return svg("mAP by language before and after training, and the learning curve", 2 * step + 410, 404, parts)


def _map(caption: str, values: Pairs, languages: list[str], ends: tuple[float, float], left: float) -> Markup:
    size = _SIDE / len(languages)
    at = {x: (n + 0.5) * size for n, x in enumerate(languages)}
    parts = [draw('<text class="panel" x="{}" y="22">{}</text>', _LEFT, caption)]
    for x, place in at.items():
        parts.append(draw('<text class="row" x="{}" y="{:.1f}">{}</text>', _LEFT - 6, _TOP + place, x))
        parts.append(draw('<text class="tick" x="{:.1f}" y="{}">{}</text>', _LEFT + place, _TOP - 12, x))
    cell = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2" fill="{}"><title>{}</title></rect>'
    for (x, y), value in values.items():
        shade = colour((value - ends[0]) / (ends[1] - ends[0]), VIRIDIS)
        corner = (_LEFT + at[y] - size / 2 + 1, _TOP + at[x] - size / 2 + 1)
        parts.append(draw(cell, *corner, size - 2, size - 2, shade, f"{x} → {y}: mAP {number(value)}"))
    return draw('<g transform="translate({} 0)">{}</g>', left, Markup("").join(parts))


def _scale(ends: tuple[float, float], left: float, top: float) -> Markup:
    bars = [
        draw('<rect x="{}" y="{}" width="6.5" height="10" fill="{}"/>', left + 30 + 6 * n, top, colour(n / 20, VIRIDIS))
        for n in range(21)
    ]
    text = '<text class="value" x="{}" y="{}">{:.1f}</text>{}<text class="value" x="{}" y="{}">{:.1f}    {}</text>'
    says = "mAP of questions in one language (rows) for passages in another (columns)"
    return draw(text, left, top + 5, ends[0], Markup("").join(bars), left + 164, top + 5, ends[1], says)


def _style() -> str:
    return render("drawing.css", {}) + "svg { font-family: system-ui, sans-serif } .page { fill: var(--page) }"


def main(arguments: list[str]) -> None:
    """The command: writes the picture of a run."""
    if len(arguments) != 2:
        raise SystemExit("usage: python -m hybridir.reports.picture RUN OUT.svg")
    run, out = map(Path, arguments)
    if not (run / "results.json").exists():
        raise SystemExit(f"error: {run} has no results.json: name the output folder of a finished training run")
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    drawn = picture(results, list(read_history(run / "history.jsonl")))
    replace_text(out, str(drawn).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:])
