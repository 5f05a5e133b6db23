"""The page of a study: its claims, plots and tables, whatever has failed or is missing."""

import copy
import csv
import io
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from test_pages import EVIL, SCRIPT, Page

from hybridir.evaluation.settings import SETTINGS
from hybridir.reports.html.charts import DASHES, Series, Spot, axis, lines, scatter
from hybridir.reports.html.pages import STUDY, write_study
from hybridir.reports.html.plots import whisker
from hybridir.reports.html.study_claims import VERDICTS

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
ZERO_SHOT = ("el", "vi")
ARMS = (
    "hybrid", "X-X-mono", "X-Y", "X-X", "En-En", "hybrid 0.25", "hybrid 0.75", "mixed kinds", "mono then cross",
    "sum of losses", "weight average", "no mask", "2x batch", "equal tokens", "BM25-like <b>",
)  # fmt: skip
TOTALS = {"mAP": 0.0, "R@1": -0.2, "R@10": 0.1}


def study(arms: int = 4, seeds: int = 5, languages: tuple[str, ...] = LANGUAGES) -> dict[str, Any]:
    """Made-up results of a study of the first `arms` arms."""
    random = np.random.default_rng(0)
    named = {name: arm(n, random, seeds, languages) for n, name in enumerate(ARMS[:arms])}
    made = {
        "command": "python jobs/study.py sampling",
        "config": {"seed": 0},
        "versions": {"python": "3.11"},
        "time": "2026-11-21T06:00:00+00:00",
        "sizes": {"queries": 1190, "passages": 13014},
    }
    return {
        "study": "sampling",
        "title": "What the mix of batches does",
        "about": "Which pairs share a batch decides what a retriever learns.",
        "benchmark": "sample",
        "languages": list(languages),
        "trained_languages": [x for x in languages if x not in ZERO_SHOT],
        "zero_shot_languages": [x for x in languages if x in ZERO_SHOT],
        "seeds": list(range(seeds)),
        "reference": "hybrid",
        "sources": {"paper": "Claims of the paper", "sceptic": "What a sceptic would ask"},
        "margin": {"mAP": 0.01, "rank_distance": 100.0},
        "arms": named,
        "claims": claims(named, seeds),
        "published": [
            {"encoder": "XLM-R", "method": "hybrid", "monolingual": 0.798, "crosslingual": 0.705}
            | {"multilingual": 0.593, "rank_distance": 287}
        ],
        "published_note": "other encoders and data",
        "notes": ["The sample is small."],
        "provenance": made,
    }


def arm(n: int, random: np.random.Generator, seeds: int, languages: tuple[str, ...]) -> dict[str, Any]:
    """Made-up results of one arm that finished all seeds."""
    level = {s: base + random.normal(0, 0.04) for s, base in zip(SETTINGS, (0.85, 0.5, 0.4), strict=True)}
    distance = 300 + 2500 * random.random()

    def values(shift: float, extremes: bool = True) -> dict[str, dict[str, float]]:
        shown = TOTALS if extremes else {"mAP": 0.0}
        found = {s: {m: level[s] + more + shift for m, more in shown.items()} for s in SETTINGS}
        found["multilingual"]["rank_distance"] = distance * (1 - shift)
        return found

    def ends(of: dict[str, dict[str, float]], half: float) -> dict[str, dict[str, list[float]]]:
        return {
            s: {m: [v - half * max(1, v) ** 0.8, v + half * max(1, v) ** 0.8] for m, v in one.items()}
            for s, one in of.items()
        }

    overall = values(0.0)
    per_language = {x: values(-0.1 * (x in ZERO_SHOT) + random.normal(0, 0.03)) for x in languages}
    groups = {"trained": values(0.02, extremes=False)}
    if set(languages) & set(ZERO_SHOT):
        groups["zero-shot"] = values(-0.1, extremes=False)
    steps = list(range(25, 201, 25))
    decay = 2.9 - 0.02 * n - (1.2 + 0.05 * n) * (1 - np.exp(-np.array(steps) / 60))
    return {
        "about": f"arm number {n}, whose batches are drawn as its name says",
        "x": n / 10,
        "seeds": list(range(seeds)),
        "errors": {},
        "steps": 200,
        "tokens": 1234567.0 + n,
        "seconds": 41.25,
        **overall,
        "intervals": ends(overall, 0.012) if seeds > 1 else {},
        "per_seed": {str(k): values(random.normal(0, 0.012), extremes=False) for k in range(seeds)},
        "groups": groups,
        "group_intervals": {group: ends(of, 0.015) for group, of in groups.items()} if seeds > 1 else {},
        "per_language": per_language,
        "language_intervals": {x: ends(of, 0.03) for x, of in per_language.items()} if seeds > 1 else {},
        "bias": {
            "preference_rate": {"mean": 0.2511 + n / 1000, "least": 0.21, "greatest": 0.31},
            "score_margin": {"mean": 0.0345, "least": 0.0345, "greatest": 0.0345},
        },
        "curve": {
            "steps": steps,
            "validation": {str(k): (decay + random.normal(0, 0.03, len(steps))).tolist() for k in range(seeds)},
        },
    }


def claims(arms: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    """A claim for each other arm, of all verdicts and relations in turn."""
    found = []
    relations = ("not worse", "better", "equal")
    over = "clusters and seeds" if seeds >= 5 else "clusters"
    for n, (name, baseline) in enumerate(list(arms.items())[1:]):
        verdict = list(VERDICTS)[n % 4]
        parts = []
        for setting, measure in (("monolingual", "mAP"), ("multilingual", "rank_distance")):
            here, there = arms["hybrid"][setting][measure], baseline[setting][measure]
            half, margin = (0.012, 0.01) if measure == "mAP" else (210.5, 100.0)
            part = {"arm": "hybrid", "baseline": name, "setting": setting, "measure": measure, "languages": "all"}
            part |= {"relation": relations[n % 3], "difference": here - there, "p": 0.03, "margin": margin}
            part |= {"interval": [here - there - half, here - there + half], "detectable": half, "value": here}
            parts.append(part | {"baseline_value": there, "verdict": verdict, "seeds": seeds, "over": over})
        text = f"hybrid is {relations[n % 3]} against {name} where questions and passages share a language."
        source = "paper" if n % 5 < 3 else "sceptic"
        parts = parts if verdict != "not tested" else []
        found.append({"id": f"c{n}", "text": text, "source": source, "verdict": verdict, "parts": parts})
    return found


def troubled() -> dict[str, Any]:
    """One arm has failed, another lost seeds, a third is no training; a name and an error are code."""
    results = study(len(ARMS))
    failed = {"about": "fails", "x": 0.15, "seeds": [], "errors": {"0": f"ValueError: {EVIL}\nlower it", "1": "killed"}}
    results["arms"]["2x batch"] = failed
    results["arms"]["no mask"] |= {"seeds": [0, 1, 2], "errors": {"3": "FloatingPointError: inf", "4": "the same"}}
    del results["arms"]["weight average"]["curve"]
    return results


def write(results: dict[str, Any], directory: Path) -> Page:
    return Page(write_study(results, directory).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Path, dict[str, Any]]:
    directory, results = tmp_path_factory.mktemp("study"), troubled()
    return write(results, directory), directory, results


def sheet(directory: Path, name: str) -> list[dict[str, str]]:
    text = (directory / "plots" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


Made = tuple[Page, Path, dict[str, Any]]


def test_is_one_page_that_needs_no_other_and_no_eyes(made: Made) -> None:
    page, _, _ = made
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids) == len(STUDY) - 1  # all but the one on changed queries, which were not measured
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "b")
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        if (address := attributes.get("href")) and not address.startswith("data:text/csv"):
            assert address in [f"#{name}" for name in ids]
    names = [tag for tag, _ in page.tags]
    assert names.count("table") == names.count("caption") > 10
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len({a["aria-label"] for a in drawings if a.get("role") == "img"}) == 9
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in drawings)


def test_heading_says_what_it_is(made: Made) -> None:
    page, _, _ = made
    assert "sample · 15 arms · 5 seeds · 11 languages · 1,190 queries · 13,014 passages · 2026-11-21" in page.text
    for text in ("What the mix of batches does", "Which pairs share a batch", "The sample is small."):
        assert text in page.text


def test_claims_have_their_verdict_in_words_and_their_numbers(made: Made) -> None:
    page, directory, results = made
    for claim in results["claims"]:
        assert f"{VERDICTS[claim['verdict']][0]} {claim['verdict']} {claim['text']}" in page.text
    paper, _, sceptic = page.text.partition("What a sceptic would ask")
    for claim in results["claims"]:
        assert claim["text"] in (paper if claim["source"] == "paper" else sceptic)
    hybrid, mono = (results["arms"][name]["monolingual"]["mAP"] for name in ("hybrid", "X-X-mono"))
    row = page.row("hybrid not worse than X-X-mono: Monolingual mAP")
    difference = f"{hybrid - mono:+.3f} [{hybrid - mono - 0.012:+.3f}, {hybrid - mono + 0.012:+.3f}]".replace("-", "−")
    assert row[1:8] == [difference, "✓ holds", f"{hybrid:.3f}", f"{mono:.3f}", "0.030", "0.010", "0.012"]
    assert "t test over clusters of questions and 5 training seeds" in page.text
    assert "2 ✓ holds · 2 ✗ does not hold · 3 ? undecided · 2 – not tested" in paper
    told = (directory / "table.md").read_text(encoding="utf-8")
    assert f"| {results['claims'][3]['text']} | What a sceptic would ask | – not tested |" in told
    rows = sheet(directory, "claims")
    parts = [part for claim in results["claims"] for part in claim["parts"] or [{}]]
    assert [row["difference"] for row in rows] == [str(part.get("difference", "")) for part in parts]
    assert {row["claim"] for row in rows} == {claim["id"] for claim in results["claims"]}


def test_no_difference_without_its_interval(tmp_path: Path) -> None:
    results = study(2)
    results["claims"][0]["parts"][0] |= {"interval": None, "difference": 0.4321}
    page = write(results, tmp_path)
    assert page.row("hybrid not worse than X-X-mono: Monolingual mAP")[1] == "–"
    assert "+0.432" not in page.text


def test_claims_name_their_languages(tmp_path: Path) -> None:
    results = study(2)
    results["claims"][0]["parts"][0]["languages"] = "zero-shot"
    page = write(results, tmp_path)
    assert page.row("hybrid not worse than X-X-mono: Monolingual mAP, zero-shot languages")[2] == "✓ holds"


def test_failed_arms_are_shown_as_failed(made: Made) -> None:
    page, directory, results = made
    assert page.row("2x batch") == ["2x batch", "✗ 2 failed", "0 of 5", "–", "–", "–", "fails"]
    assert page.row("no mask")[1:3] == ["✗ 2 failed", "3 of 5"]
    assert page.row("hybrid", "✓ done")[2:] == [
        "5 of 5",
        "200",
        "1,234,567",
        "41.2",
        results["arms"]["hybrid"]["about"],
    ]
    told = (directory / "table.md").read_text(encoding="utf-8")
    for text in ("✗ 2x batch, seed 0: ValueError: Is 1 < 2 & ", "✗ no mask, seed 3: FloatingPointError: inf"):
        assert text in page.text
        assert text in told
    assert "no mask (3 of 5 seeds)" in page.text
    for name in ("trade_off", "over_x", "curves", "languages"):
        assert "2x batch" not in {row["arm"] for row in sheet(directory, name)}
    assert "weight average" not in {row["arm"] for row in sheet(directory, "curves")}


def test_tables_hold_the_results_and_mark_the_best(made: Made) -> None:
    page, directory, results = made
    arms = {name: arm for name, arm in results["arms"].items() if "monolingual" in arm}
    for name, arm in arms.items():
        label = f"{name} (3 of 5 seeds)" if name == "no mask" else name
        (row,) = [row for row in page.rows if row[0] == label and len(row) == 11]
        means = [arm[s][m] for s in SETTINGS for m in ("mAP", "R@1", "R@10")]
        assert [cell.split()[0] for cell in row[1:10]] == [f"{v:.3f}" for v in means]
        assert row[10].split()[0] == f"{arm['multilingual']['rank_distance']:,.1f}"
        low, high = arm["intervals"]["crosslingual"]["R@10"]
        assert row[6].endswith(f" [{low:.3f}, {high:.3f}]")
        (row,) = [row for row in page.rows if row[0] == label and len(row) == 9]
        zero_shot = arm["groups"]["zero-shot"]["crosslingual"]["mAP"], arm["group_intervals"]["zero-shot"]
        assert row[4] == "{:.3f} [{:.3f}, {:.3f}]".format(zero_shot[0], *zero_shot[1]["crosslingual"]["mAP"])
    best = [a["title"] for tag, a in page.tags if tag == "td" and a.get("class") == "best"]
    assert best.count("best: Monolingual mAP") == best.count("best: Multilingual rank distance") == 1
    text = (directory / "report.html").read_text(encoding="utf-8")
    least = min(arm["multilingual"]["rank_distance"] for arm in arms.values())
    assert f'title="best: Multilingual rank distance">{least:,.1f} ' in text
    published = page.row("published: XLM-R, hybrid")
    assert (published[1], published[2], published[4], published[10]) == ("0.798", "–", "0.705", "287.0")
    assert "published were not measured here: other encoders and data" in page.text
    assert "| published: XLM-R, hybrid | 0.798 |" in (directory / "table.md").read_text(encoding="utf-8")


def test_languages_have_a_table_a_setting_and_slopes(made: Made) -> None:
    page, directory, results = made
    hybrid = results["arms"]["hybrid"]
    shown = [row for row in page.rows if row[0] == "Greek (el), zero-shot"]
    value, (low, high) = (hybrid[key]["el"]["monolingual"]["mAP"] for key in ("per_language", "language_intervals"))
    assert len(shown) == 4
    assert {len(row) for row in shown} == {15}  # 14 arms
    assert shown[0][1] == f"{value:.3f} [{low:.3f}, {high:.3f}]"
    assert "across the 6 arms that the claims name first" in page.text
    rows = {(r["setting"], r["measure"], r["language"], r["arm"]): r for r in sheet(directory, "languages")}
    assert len(rows) == 4 * 11 * 14
    found = rows["multilingual", "rank_distance", "vi", "hybrid"]
    assert float(found["value"]) == hybrid["per_language"]["vi"]["multilingual"]["rank_distance"]
    assert {language for (_, _, language, _), row in rows.items() if row["zero_shot"] == "1"} == set(ZERO_SHOT)
    text = (directory / "report.html").read_text(encoding="utf-8")
    drawing = text[text.index('aria-label="Monolingual mAP by language"') :].partition("</svg>")[0]
    assert drawing.count('class="curve') == 11
    assert drawing.count('stroke-dasharray="4 3"') == 2


def test_plots_come_with_their_numbers(made: Made) -> None:
    page, directory, results = made
    linked = {a["download"]: unquote((a["href"] or "").partition(",")[2]) for _, a in page.tags if "download" in a}
    assert linked == {path.name: path.read_text(encoding="utf-8") for path in (directory / "plots").iterdir()}
    assert len(linked) == 5
    arm = results["arms"]["X-Y"]
    for name in ("trade_off", "over_x"):
        rows = {
            row["seed"]: row
            for row in sheet(directory, name)
            if (row["arm"], row["setting"], row["measure"]) == ("X-Y", "multilingual", "rank_distance")
        }
        mean, seed = rows["mean"], rows["3"]
        assert float(mean["value"]) == arm["multilingual"]["rank_distance"]
        assert [float(mean[end]) for end in ("low", "high")] == arm["intervals"]["multilingual"]["rank_distance"]
        assert float(seed["value"]) == arm["per_seed"]["3"]["multilingual"]["rank_distance"]
        assert float(mean["x"]) == arm["x"]
        assert len(rows) == 6
    curve = [row for row in sheet(directory, "curves") if row["arm"] == "X-Y"]
    values = np.array(list(arm["curve"]["validation"].values()))
    assert [int(float(row["step"])) for row in curve] == arm["curve"]["steps"]
    for key, wanted in (("mean", values.mean(0)), ("least", values.min(0)), ("greatest", values.max(0))):
        np.testing.assert_allclose([float(row[key]) for row in curve], wanted, rtol=1e-12)


def test_curves_go_as_far_as_all_seeds_came(tmp_path: Path) -> None:
    results = study(2)
    curve = results["arms"]["hybrid"]["curve"]
    curve["validation"]["1"] = curve["validation"]["1"][:3]
    write(results, tmp_path)
    assert [row["step"] for row in sheet(tmp_path, "curves") if row["arm"] == "hybrid"] == ["25.0", "50.0", "75.0"]


def test_bias_says_what_it_measures_and_which_way_is_better(made: Made) -> None:
    page, _, _ = made
    (head,) = [row for row in page.rows if "Preference rate (best near 1 / answers)" in row]
    assert head == [
        "arm", "Rank distance (lower is better)", "Preference rate (best near 1 / answers)", "Score margin (best at 0)",
    ]  # fmt: skip
    (row,) = [row for row in page.rows if row[0] == "X-Y" and len(row) == 4]
    assert row[2:] == ["0.253 [0.210, 0.310]", "0.035"]  # all seeds the same: no brackets
    assert "Share of questions whose best-ranked answer is in their own language" in page.text


def test_names_are_text(tmp_path: Path) -> None:
    results = study(2)
    results["arms"][EVIL] = results["arms"].pop("X-X-mono")
    results |= {"title": EVIL, "about": EVIL, "published_note": EVIL, "notes": [EVIL]}
    results["claims"][0]["text"] = EVIL
    for part in results["claims"][0]["parts"]:
        part["baseline"] = EVIL
    page = write(results, tmp_path)
    assert page.scripts == [SCRIPT]
    assert page.text.count(EVIL) > 10


@pytest.mark.parametrize(("arms", "seeds", "languages"), [(1, 1, ("en",)), (2, 1, ("de", "en")), (2, 3, ("el",))])
def test_little_is_shown_as_it_is(arms: int, seeds: int, languages: tuple[str, ...], tmp_path: Path) -> None:
    results = study(arms, seeds, languages)
    page = write(results, tmp_path)
    value = results["arms"]["hybrid"]["monolingual"]["mAP"]
    (row,) = [row for row in page.rows if row[0] == "hybrid" and len(row) == 11]
    assert row[1].split()[0] == f"{value:.3f}"
    assert ("[" in row[1]) == (seeds > 1)
    assert ("Language bias" in page.text) == (len(languages) > 1)
    assert ("never seen in training" in page.text) == ("el" in languages)
    assert ("What is traded for what" in page.text) == ("Over the whole range" in page.text) == (arms > 1)


def test_the_verdict_comes_first_and_says_for_which_models(tmp_path: Path) -> None:
    page = write(study(5, seeds=5), tmp_path / "five")
    assert (
        "Claims: 1 ✓ holds · 1 ✗ does not hold · 1 ? undecided · 1 – not tested."
        in page.text.partition("Claims and")[0]
    )
    assert "models only" not in page.text
    page = write(study(5, seeds=1), tmp_path / "one")
    assert "the verdicts hold for these trained models only" in page.text.partition("Claims and")[0]
    assert page.text.count("for these two models only") == 3  # not on the claim that was not tested
    assert write(study(5, seeds=3), tmp_path / "three").text.count("for these 6 models only") == 3


def test_claims_about_arms_that_were_left_out_are_hidden(tmp_path: Path) -> None:
    results = study(5)
    *_, failed = results["claims"]
    assert failed["verdict"] == "not tested"
    failed["arms"] = ["hybrid", "En-En"]
    hidden = {"id": "left out", "text": "About what was not asked.", "arms": ["no such arm"]}
    results["claims"].append(failed | hidden)
    page = write(results, tmp_path)
    assert f"– not tested {failed['text']}" in page.text
    assert "– not tested About" not in page.text
    assert (
        "Claims not shown, because arms or conditions of theirs were left out: About what was not asked." in page.text
    )
    assert "1 – not tested." in page.text.partition("Claims and")[0]


def test_nothing_finished(tmp_path: Path) -> None:
    results = study(2)
    results["arms"] = {name: {"about": "", "seeds": [], "errors": {"0": f"{name} broke"}} for name in results["arms"]}
    for claim in results["claims"]:
        claim |= {"verdict": "not tested", "parts": []}
    page = write(results, tmp_path)
    assert [a["id"] for _, a in page.tags if "id" in a] == ["claims", "arms", "made"]
    assert "✗ X-X-mono, seed 0: X-X-mono broke" in page.text


@pytest.mark.parametrize("absent", SETTINGS)
def test_a_setting_may_be_absent(absent: str, tmp_path: Path) -> None:
    results = study(3)
    results["claims"] = []
    for one in results["arms"].values():
        del one[absent]
        for of in ("per_seed", "groups", "per_language"):
            for values in one[of].values():
                del values[absent]
    page = write(results, tmp_path)
    shown = {name.split()[0].lower().replace("-", "") for row in page.rows if row[0] == "arm" for name in row}
    assert shown & set(SETTINGS) == set(SETTINGS) - {absent}
    assert {row["setting"] for row in sheet(tmp_path, "languages")} == set(SETTINGS) - {absent}


def test_same_results_same_bytes_and_left_as_they_were(tmp_path: Path) -> None:
    results = troubled()
    before = copy.deepcopy(results)
    first, second = (write_study(results, tmp_path / name).read_bytes() for name in "ab")
    assert first == second
    assert results == before


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.412, 0.587], ["0.40", "0.45", "0.50", "0.55", "0.60"]),
        ([0, 1], ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([120.5, 8700], ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]),
        ([-0.03, 0.01], ["−0.03", "−0.02", "−0.01", "0.00", "0.01"]),
        ([2.71, 2.71], ["2.70", "2.75"]),
        ([0.0, 0.0], ["−0.2", "0.0", "0.2"]),
    ],
)
def test_axes_have_round_ticks(values: list[float], texts: list[str]) -> None:
    found = axis("loss", values)
    assert list(found.texts) == texts
    assert found.ticks[0] <= min(values)
    assert found.ticks[-1] >= max(values)


def test_names_do_not_cover_each_other() -> None:
    random = np.random.default_rng(3)
    at = random.normal(0.5, 0.05, (16, 2))
    spots = [Spot(name=f"an arm, {n}", n=n, x=(x, None), y=(y, None)) for n, (x, y) in enumerate(at)]
    ends = axis("mAP", [0.3, 0.7])
    text = scatter("arms", spots, ends, ends)
    places = [(float(x), float(y)) for x, y in re.findall(r'class="halo" x="([\d.]+)" y="([\d.]+)"', text)]
    assert len(places) == 16
    for n, (x, y) in enumerate(places):
        assert not [1 for a, b in places[:n] if abs(a - x) < 60 and abs(b - y) < 14]


@pytest.mark.parametrize("level", [0.0, 0.85])
def test_names_of_lines_stand_below_each_other_within_the_frame(level: float) -> None:
    series = [
        Series(name=f"arm {n}", n=n, points=[(0, 1), (1, level + n / 100)], dash=DASHES[n % 5]) for n in range(16)
    ]
    text = lines("arms", series, axis("x", [0, 1]), axis("y", [0, 1]))
    heights = sorted(float(y) for y in re.findall(r'<text x="374" y="([\d.]+)">arm', text))
    assert len(heights) == 16
    assert np.diff(heights).min() > 14
    assert heights[0] >= 36
    assert heights[-1] <= 356


def test_whiskers_show_the_margin_and_what_lies_beyond() -> None:
    inside, beyond = whisker(0.02, [0.01, 0.03], 0.06, 0.01), whisker(-0.5, [-0.6, -0.4], 0.06, 0.01)
    assert 'class="margin" d="M55.3 1V19M74.7 1V19"' in inside
    assert "<circle" in inside
    assert "<circle" not in beyond
    assert 'd="M7.0 10H7.0"' in beyond
    assert "margin" not in whisker(0.02, [0.01, 0.03], 0.06)
