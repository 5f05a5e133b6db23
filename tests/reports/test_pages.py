"""The page of an evaluation: well-formed, self-contained, and with the numbers of the results and no others."""

import copy
import csv
import io
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from hybridir.reports.html.pages import write_report
from hybridir.reports.html.plots import ORANGE_BLUE, ORANGE_BLUE_DARK, VIRIDIS, colour, ink

VOID = {"meta", "br", "hr", "img", "input", "link"}
SCRIPT = files("hybridir.reports.html").joinpath("templates/page.js").read_text(encoding="utf-8").strip()
EVIL = 'Is 1 < 2 & "<script>alert(1)</script>"?'


def system(level: float) -> dict[str, Any]:
    """Made-up results of a system in two languages."""
    values = {"mAP": level, "R@1": level - 0.1, "success@1": level - 0.05, "n_queries": 4, "excluded": 0}
    settings = {name: dict(values, mAP=level - n / 10) for n, name in enumerate(("monolingual", "crosslingual"))}
    settings["multilingual"] = dict(values, mAP=level - 0.2, rank_distance=31.25, rank_distance_log2=2.5, excluded=1)
    intervals = {s: {"mAP": {"interval": [v["mAP"] - 0.0123, v["mAP"] + 0.0234]}} for s, v in settings.items()}
    return {
        **settings,
        "intervals": intervals,
        "per_language": {
            x: {s: {"mAP": v["mAP"] + n / 100} for s, v in settings.items()} for n, x in enumerate(("ar", "en"))
        },
        "language_intervals": {"ar": {"monolingual": {"mAP": [level - 0.07, level + 0.06]}}},
        "per_pair": {
            f"{x}-{y}": {"mAP": level - 0.1 * (x < y) - 0.15 * (x > y)} for x in ("ar", "en") for y in ("ar", "en")
        },
    }


def comparison(**more: Any) -> dict[str, Any]:
    usual = {"system": "ours", "baseline": "BM25", "setting": "monolingual", "language": "", "measure": "mAP"}
    numbers = {
        "value": 0.8123,
        "baseline_value": 0.7001,
        "difference": 0.1122,
        "interval": [0.0911, 0.1333],
        "p": 0.0004,
    }
    return usual | numbers | {"p_holm": None, "detectable": 0.0277, "over": "clusters", "seeds": 1} | more


def full() -> dict[str, Any]:
    bias = {
        "rank_distribution": {
            "upper": [1, 2, 5, None],
            "same": [0.5, 0.25, 0.125, 0.125],
            "other": [0.1, 0.2, 0.3, 0.4],
        },
        "top_k_languages": {
            "k": 10,
            "by_query_language": {"ar": {"ar": 0.71, "en": 0.29}, "en": {"en": 1.0}},
            "corpus": {"ar": 0.5, "en": 0.5},
            "kl": 0.4567,
        },
        "preference_rate": {"mean": 0.6543, "per_language": {"ar": 0.611, "en": 0.622}},
        "friedman": {"ar": {"chi2": 7.5, "p": 0.0301, "w": 0.2222, "n": 4, "mean_rank": {"ar": 1.25, "en": 1.75}}},
        "rank_correlation": {"mean": 0.3456, "per_pair": {"ar-en": 0.3456}},
        "score_margin": {"mean": -0.0789, "per_language": {"ar": 0.1}},
        "min_max": {"monolingual": {"min": ["ar", 0.61], "max": ["en", 0.82], "ratio": 0.7439}},
    }
    answers = [{"language": "ar", "rank": 1234, "text": "نعم"}]
    retrieved = [
        {"rank": 1, "language": "en", "text": EVIL, "score": 0.98765, "relevant": False},
        {"rank": 2, "language": "ar", "text": "نعم", "score": 0.5, "relevant": True},
    ]
    example = {
        "query_id": "q<1>",
        "language": "en",
        "text": EVIL,
        "cluster": "c",
        "answers": answers,
        "retrieved": retrieved,
    }
    made = {
        "command": "python jobs/evaluate.py --benchmark.path <here> && echo",
        "config": {"seed": 0},
        "fingerprints": {"benchmark": "abc123"},
        "versions": {"python": "3.12"},
        "seconds": {"encode": 1.25},
        "time": "2026-11-21T06:00:00+00:00",
        "sizes": {"queries": 1190, "passages": 13014},
    }
    return {
        "benchmark": "xquad-r",
        "encoder": "ours",
        "languages": ["ar", "en"],
        **system(0.8123),
        "bias": bias,
        "systems": {"BM25": system(0.7001), "a<b": system(0.8)},
        "comparisons": [
            comparison(),
            comparison(baseline="a<b", difference=0.0123, interval=[-0.01, 0.03], p=0.3),
            comparison(language="ar", difference=-0.0321, interval=[-0.05, -0.01], p_holm=0.2),
            comparison(setting="multilingual", measure="rank_distance", difference=-40.06, interval=[-50.0, -30.0]),
        ],
        "examples": [example],
        "provenance": made,
    }


class Page(HTMLParser):
    """Checks that tags are balanced; keeps ids, addresses, tables as lists of texts, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text, self.scripts = "", list[str]()
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts.append(data.strip())
        elif "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, *start: str) -> list[str]:
        """The only row that begins so."""
        (found,) = [row for row in self.rows if tuple(row[: len(start)]) == start]
        return found


def page_of(results: dict[str, Any], directory: Path) -> Page:
    return Page(write_report(results, directory).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Path]:
    directory = tmp_path_factory.mktemp("report")
    return page_of(full(), directory), directory


def test_is_one_page_that_needs_no_other(made: tuple[Page, Path]) -> None:
    page, directory = made
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) == 7
    assert page.scripts == [SCRIPT]
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe")
        assert not any(name.startswith("on") for name in attributes)
        assert "src" not in attributes
        if (address := attributes.get("href")) and not address.startswith("data:text/csv"):
            assert address in [f"#{name}" for name in ids]
    style = (directory / "report.html").read_text(encoding="utf-8").rpartition("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)
    assert not re.search(r"https?:(?!//www.w3.org/2000/svg)|fetch|import|innerHTML", SCRIPT)


def test_can_be_read_without_eyes(made: tuple[Page, Path]) -> None:
    page, _ = made
    names = [tag for tag, _ in page.tags]
    assert names.count("table") == names.count("caption") > 6
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert all((a.get("role") == "img" and a.get("aria-label")) or a.get("aria-hidden") for a in drawings)
    assert [a["lang"] for tag, a in page.tags if tag == "span" and a.get("dir") == "auto"] == ["en", "en", "ar", "ar"]
    assert all(a.get("scope") for tag, a in page.tags if tag == "th")


def test_headline_shows_the_results(made: tuple[Page, Path]) -> None:
    page, directory = made
    ours = [row for row in page.rows if row[:1] == ["ours"] and len(row) == 5]
    assert [row[1] for row in ours] == ["0.812 [0.800, 0.836]", "0.712 [0.700, 0.736]", "0.612 [0.600, 0.636]"]
    assert [row[4] for row in ours] == ["", "", "31.2"]
    assert ours[0][2:4] == ["0.712", "0.762"]
    assert ["Multilingual: 4 questions, 1 excluded (no right answer)"] in page.rows
    assert "| ours | 0.812 [0.800, 0.836] | 0.712 |" in (directory / "table.md").read_text(encoding="utf-8")
    assert "2 languages · 1,190 queries · 13,014 passages · 2026-11-21" in page.text


def test_verdicts_need_an_interval_without_0(made: tuple[Page, Path]) -> None:
    page, _ = made
    shown = {row[1]: row for row in page.rows if len(row) in (8, 9)}
    assert shown["+0.112 [+0.091, +0.133]"][2:7] == ["better", "0.812", "0.700", "< 0.001", "0.028"]  # no Holm p
    assert shown["+0.012 [−0.010, +0.030]"][2] == ""
    assert shown["−0.032 [−0.050, −0.010]"][2] == "worse, not after Holm"
    assert shown["−0.032 [−0.050, −0.010]"][6:8] == ["0.200", "0.028"]
    assert shown["−40.1 [−50.0, −30.0]"][2] == "better"  # a smaller rank distance
    assert "If the Holm p is missing" not in page.text
    assert "Against BM25, a<b: intervals resample clusters of questions" in page.text


def test_verdicts_need_interval_and_test(tmp_path: Path) -> None:
    results = full()
    results["comparisons"] = [
        comparison(p=0.122),
        comparison(setting="multilingual", interval=[-0.01, 0.03], p=0.04),
        comparison(language="ar", p=0.05, p_holm=0.05),
        comparison(language="en", p=0.122, p_holm=0.2),
        comparison(language="ar", setting="multilingual", p_holm=None),
    ]
    page = page_of(results, tmp_path)
    doubt = "interval and test disagree"
    assert [row[2] for row in page.rows if len(row) == 8][1:3] == [doubt, doubt]
    by_language = [(row[2], row[6]) for row in page.rows if len(row) == 9 and row[2] != "verdict"]
    assert by_language == [("better", "0.050"), (doubt, "0.200"), ("better", "–")]
    assert "If the Holm p is missing, there are too few clusters" in page.text


def test_the_page_says_what_intervals_rest_on(tmp_path: Path) -> None:
    results = full()
    results["comparisons"] = [
        comparison(over="clusters and seeds", seeds=5),
        comparison(over="clusters and the system's seeds", seeds=5, baseline="a<b"),
    ]
    text = page_of(results, tmp_path).text
    assert "Against BM25: intervals and p are from a t test over clusters of questions and 5 training seeds" in text
    assert "Against a<b: intervals and p are from a t test" in text
    assert "for the one model of the other system" in text
    assert "randomisation" not in text


def test_tables_in_markdown_hold_notes_and_provenance(tmp_path: Path) -> None:
    results = full() | {"notes": ["3 texts were cut"]}
    for setting in ("monolingual", "multilingual"):
        results[setting] |= {"n_clusters": 4}
    results["crosslingual"] = {"n_queries": 0, "n_clusters": 0, "excluded": 0}
    page, text = page_of(results, tmp_path), (tmp_path / "table.md").read_text(encoding="utf-8")
    for shown in (
        "3 texts were cut",
        "There are only 4 clusters of questions",
        "python jobs/evaluate.py --benchmark.path <here> && echo",
        "abc123",
        "python 3.12",
        "2026-11-21T06:00:00+00:00",
        "paired randomisation test",
    ):
        assert shown in page.text
        assert shown.replace("<", "\\<") in text
    assert "only 0 clusters" not in page.text


def test_one_language_has_no_bias(tmp_path: Path) -> None:
    assert "Language bias" not in page_of(full() | {"languages": ["en"]}, tmp_path).text


def test_bias_says_what_is_of_the_first_seed(made: tuple[Page, Path], tmp_path: Path) -> None:
    assert "those of the first seed" not in made[0].text
    assert "those of the first seed" in page_of(full() | {"seeds": 3}, tmp_path).text
    assert "those of the first seed" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_no_difference_without_its_interval(tmp_path: Path) -> None:
    results = full()
    results["comparisons"] = [comparison(difference=0.4321, interval=None)]
    page = page_of(results, tmp_path)
    assert "0.432" not in page.text
    assert "Comparisons" not in page.text
    assert not re.search(r"[+−]\.\d", page.text)  # nor in the heat map, which shows both values instead
    assert ".812.700" in [cell for row in page.rows for cell in row]


def test_heat_maps(made: tuple[Page, Path]) -> None:
    page, _ = made
    assert [row[1:] for row in page.rows if row[0] == "Arabic (ar)" and len(row) == 3] == [
        [".812", ".712"],
        ["−.032−.050 −.010", ".712.600"],  # with its interval, or both values
        [".700", ".600"],  # BM25
        [".800", ".700"],
        ["71", "29"],
    ]


def test_bias(made: tuple[Page, Path]) -> None:
    page, _ = made
    shown = {row[0]: row[1] for row in page.rows if len(row) == 4}
    assert shown["Rank distance"] == "31.2"
    assert shown["Preference rate"] == "0.654"
    assert shown["Kendall's W"] == "0.222"
    assert shown["Rank correlation"] == "0.346"
    assert shown["Score margin"] == "−0.079"
    assert shown["KL of the top k"] == "0.457"
    assert shown["Min / max, monolingual"] == "0.744 (ar 0.610, en 0.820)"
    for text in ("> 5", "3–5", "12.5 %", "40.0 %"):
        assert text in page.text


def test_text_is_text(made: tuple[Page, Path]) -> None:
    page, _ = made
    assert page.text.count(EVIL) == 2
    assert "q<1>" in page.text
    assert "a<b" in page.text
    assert "--benchmark.path <here> && echo" in page.text


def test_right_and_wrong_are_told_in_words(made: tuple[Page, Path]) -> None:
    page, _ = made
    assert page.row("1", "✗ wrong")[2:] == ["en", EVIL, "0.988"]
    assert page.row("2", "✓ right")[2:] == ["ar", "نعم", "0.500"]
    assert page.row("1,234", "✓ right")[2:] == ["ar", "نعم", "–"]  # the right passage, though it was not retrieved


def test_examples_go_from_gain_to_loss_by_language(tmp_path: Path) -> None:
    results = full()
    (one,) = results["examples"]
    more = {"against": "BM25", "AP": 0.25, "answers": [one["answers"][0] | {"before": 7}]}
    results["examples"] = [one | more | {"gain": gain} for gain in (-0.5, 0.125)]
    text = page_of(results, tmp_path).text
    assert "English (en): +0.125 and −0.500" in text
    gain, loss = (text.index(f"Average precision 0.250, with BM25 {x}.") for x in ("0.125: +0.125", "0.750: −0.500"))
    assert gain < loss
    assert "1,234 (7)" in text


def test_the_verdict_stands_on_top(made: tuple[Page, Path]) -> None:
    page, directory = made
    on_top = page.text.partition("Retrieval quality")[0]
    assert "ours is better than BM25 in monolingual (+0.112 [+0.091, +0.133]) retrieval, by mAP, with 95" in on_top
    assert "ours is not distinguishable from a<b in monolingual (+0.012 [−0.010, +0.030], detectable 0.028)" in on_top
    assert "better than BM25" in (directory / "table.md").read_text(encoding="utf-8")


def test_the_best_of_each_column_is_marked(made: tuple[Page, Path]) -> None:
    _, directory = made
    html = (directory / "report.html").read_text(encoding="utf-8")
    marked = re.findall(r'<td class="best" title="best ([^"]*)">([^< ]*)', html)
    assert marked == [
        *[("mAP", "0.812"), ("R@1", "0.712"), ("success@1", "0.762")],
        *[("mAP", "0.712"), ("R@1", "0.712"), ("success@1", "0.762")],
        *[("mAP", "0.612"), ("R@1", "0.712"), ("success@1", "0.762")],
        *[("rank distance", "31.2")] * 3,
    ]


def test_recall_at_1_is_left_out_where_it_is_success(tmp_path: Path) -> None:
    results = full()
    assert [cell for cell in page_of(results, tmp_path).rows[0] if cell == "R@1"] == ["R@1"]
    for one in (results, *results["systems"].values()):
        for setting in ("monolingual", "crosslingual", "multilingual"):
            if "R@1" in one[setting]:
                one[setting]["success@1"] = one[setting]["R@1"]
    page = page_of(results, tmp_path)
    assert "R@1" not in page.rows[0]
    assert "R@1 of a question" not in page.text


def test_recall_that_reaches_the_pool_is_left_out(tmp_path: Path) -> None:
    """The column goes where all have 1, as where no more passages are searched; a note says so."""
    for lowest, told in ((0.9, False), (1.0, True)):
        results = full()
        systems = (results, *results["systems"].values())
        for one in systems:
            for setting in ("monolingual", "crosslingual", "multilingual"):
                one[setting] |= {"R@10": 1.0} if one.get(setting) else {}
        results["monolingual"]["R@10"] = lowest
        page = page_of(results, tmp_path)
        assert ("R@10" in page.rows[0]) == (not told)
        assert ("Left out, as 1 for every system in every setting: R@10." in page.text) == told
        assert ("R@10." in (tmp_path / "table.md").read_text(encoding="utf-8")) == told


def test_one_language_shows_one_setting(tmp_path: Path) -> None:
    results = full() | {"languages": ["en"]}
    for one in (results, *results["systems"].values()):
        one["crosslingual"] = {"n_queries": 0}
    page = page_of(results, tmp_path)
    assert [row[0] for row in page.rows if len(row) == 1 and "questions" in row[0]] == ["Monolingual: 4 questions"]
    assert "multilingual (" not in page.text
    assert "How well the right passages are found." in page.text


def test_a_training_run_says_what_was_trained_on_what(tmp_path: Path) -> None:
    results = full() | {"about": "Trained on X <b>, measured on Y.", "training": {"step": 1200, "stopped": "patience"}}
    results["encoder"] = "trained"
    results["validation"] = {"metric": "validation.loss", "value": 2.5, "step": 900, "of": "faq.csv"}
    results["provenance"]["config"] = {
        "data": {"sources": [], "validation": None, "name": "", "path": "faq.csv", "format": "csv"},
        "encoder": {"name": "", "layers": 2, "hidden_size": 128},
        "sampling": {"mono": 0.25, "cross": 0.75, "languages": ["ar", "en"]},
        "train": {"batch_size": 64},
    }
    text = page_of(results, tmp_path).text
    for words in (
        "Trained on faq.csv\n",
        "Trained on X <b>, measured on Y.",
        "The trained model is better than BM25 in monolingual",
        "faq.csv, in Arabic (ar) and English (en)",
        "from random weights (layers: 2, width: 128)",
        "hybrid, alpha = 0.25 (batches: mono 0.25, cross 0.75)",
        "1,200 steps of 64 pairs, stopped early; weights of step 900, with validation.loss 2.500",
    ):
        assert words in text


def test_learning_curves_come_from_the_history(tmp_path: Path) -> None:
    kinds = ("mono", "cross")
    lines = [{"step": n, "time": 0.0, "attempt": 1, "loss": float(n), "kind": kinds[n // 2 % 2]} for n in range(80)]
    lines[79]["validation"] = {"loss": 1.5, "mAP": {"monolingual": 0.25}}
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    text = page_of(full(), tmp_path).text
    assert "Learning curves" in text
    rows = list(csv.reader(io.StringIO((tmp_path / "plots" / "learning_loss.csv").read_text(encoding="utf-8"))))
    assert rows[1:3] == [["train, mono", "1.0", "0.5"], ["train, mono", "5.0", "4.5"]]  # means of two neighbours
    assert ["train, cross", "3.0", "2.5"] in rows
    assert rows[-1] == ["validation", "80.0", "1.5"]
    assert (tmp_path / "plots" / "learning_mAP.csv").read_text(encoding="utf-8").splitlines()[
        1
    ] == "Monolingual mAP,80.0,0.25"
    assert not (tmp_path / "plots" / "learning_terms.csv").exists()


def test_each_term_of_the_loss_has_a_curve(tmp_path: Path) -> None:
    lines = [{"step": n, "attempt": 1, "loss": 3.0, "terms": {"info_nce": n, "other": 2.0}} for n in range(80)]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert "terms of the loss, without weights" in page_of(full(), tmp_path).text
    rows = list(csv.reader(io.StringIO((tmp_path / "plots" / "learning_terms.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 1 + 2 * 40
    assert rows[1:3] == [["info_nce", "1.0", "0.5"], ["info_nce", "3.0", "2.5"]]  # means of two neighbours
    assert rows[-1] == ["other", "79.0", "2.0"]


def test_csv_files_hold_the_results(made: tuple[Page, Path]) -> None:
    page, directory = made
    results = full()
    linked = {a["download"]: a["href"] for _, a in page.tags if "download" in a}
    written = {path.name: path.read_text(encoding="utf-8") for path in (directory / "plots").iterdir()}
    assert {name: unquote((address or "").partition(",")[2]) for name, address in linked.items()} == written
    rows = {name: list(csv.DictReader(io.StringIO(text))) for name, text in written.items()}
    own = [row for row in rows["language_pairs.csv"] if row["system"] == "ours"]
    pairs = {f"{r['query_language']}-{r['passage_language']}": float(r["mAP"]) for r in own}
    assert pairs == {pair: values["mAP"] for pair, values in results["per_pair"].items()}
    ranks = rows["rank_distribution.csv"]
    assert [float(r["other"]) for r in ranks] == results["bias"]["rank_distribution"]["other"]
    assert [r["rank_up_to"] for r in ranks] == ["1", "2", "5", ""]
    (ours,) = [
        r for r in rows["languages.csv"] if (r["system"], r["language"], r["setting"]) == ("ours", "ar", "monolingual")
    ]
    assert [float(ours["low"]), float(ours["high"])] == results["language_intervals"]["ar"]["monolingual"]["mAP"]
    assert sorted(float(r["difference"]) for r in rows["comparisons.csv"]) == [-40.06, -0.0321, 0.0123, 0.1122]
    assert {r["share"] for r in rows["top_k_languages.csv"]} == {"0.71", "0.29", "0.0", "1.0"}


@pytest.mark.parametrize(
    ("absent", "title"),
    [("comparisons", "Comparisons"), ("per_pair", "Language by language"), ("examples", "Examples")],
)
def test_what_is_absent_vanishes(absent: str, title: str, tmp_path: Path) -> None:
    results = full()
    assert title in page_of(results, tmp_path / "with").text
    del results[absent]
    assert title not in page_of(results, tmp_path / "without").text


def test_the_least(tmp_path: Path) -> None:
    values = {"mAP": 0.5, "n_queries": 3, "excluded": 0}
    results = {
        "benchmark": "mine",
        "encoder": "ours",
        "languages": ["xx-unknown"],
        "monolingual": values,
        "crosslingual": {},
    }
    page = page_of(results, tmp_path)
    assert [attributes["id"] for _, attributes in page.tags if "id" in attributes] == ["results"]
    assert list((tmp_path / "plots").iterdir()) == []
    assert page.row("ours") == ["ours", "0.500"]


def test_same_results_same_bytes_and_left_as_they_were(tmp_path: Path) -> None:
    results = full()
    before = copy.deepcopy(results)
    first, second = (write_report(results, tmp_path / name).read_bytes() for name in "ab")
    assert first == second
    assert results == before


def test_a_system_of_the_same_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ours is compared with a system of the same name"):
        write_report(full() | {"systems": {"ours": {}}}, tmp_path)


@pytest.mark.parametrize("stops", [VIRIDIS, ORANGE_BLUE, ORANGE_BLUE_DARK])
def test_text_in_cells_can_be_read(stops: tuple[str, ...]) -> None:
    def luminance(code: str) -> float:
        code = code if len(code) == 7 else "#" + "".join(2 * c for c in code[1:])
        parts = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert colour(0, stops) == stops[0]
    assert colour(1, stops) == stops[-1]
    for n in range(101):
        light, dark = sorted((luminance(colour(n / 100, stops)), luminance(ink(colour(n / 100, stops)))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
