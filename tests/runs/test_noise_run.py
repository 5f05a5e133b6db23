"""An evaluation under noise: the same numbers as measuring each draw from scratch, and embeddings made elsewhere."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridir.data.config import BenchmarkConfig
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.conditions import Condition, under
from hybridir.evaluation.noise_grid import NoiseGrid
from hybridir.evaluation.settings import evaluate_encoder, evaluate_scores, summarise
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.retrieval.bm25 import bm25_scorer
from hybridir.retrieval.embeddings import write_embeddings
from hybridir.retrieval.encode import encode_here
from hybridir.runs.backend import track_nothing
from hybridir.runs.evaluation_run import Evaluation, preview_evaluation, run_evaluation
from hybridir.runs.prepare import Prepared

BENCHMARK = BenchmarkConfig(facts=60, languages=("de", "en", "zh"), split="test")
GRID = NoiseGrid(kinds=("swap", "keyboard"), severities=(0.1, 0.3), draws=2)


def recipe(output: Path, name: str, *others: str, **fields: Any) -> Evaluation:
    encoder = EncoderConfig(name=name)
    return Evaluation(
        encoder=encoder, compare_to=others, benchmark=BENCHMARK, output=str(output), run_depth=0, **fields
    )


def noise_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))["noise"]


@pytest.fixture(scope="module")
def model(small_run: Prepared) -> str:
    return small_run.initial.name


@pytest.fixture(scope="module")
def evaluated(model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    output, encoded = tmp_path_factory.mktemp("noise") / "out", []

    def encode(config: EncoderConfig, queries: Sequence[str], passages: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded.append((len(queries), len(passages)))
        return encode_here(config, queries, passages)

    run_evaluation(recipe(output, model, "bm25", noise=GRID, keep_embeddings=True), encode, track_nothing)
    return output, encoded


def row_of(noise: dict[str, Any], system: str, cell: str, setting: str, language: str = "") -> dict[str, Any]:
    [row] = [
        one
        for one in noise["systems"][system]
        if (one["cell"], one["setting"], one["language"]) == (cell, setting, language)
    ]
    return row


def test_each_cell_is_the_mean_of_its_draws_measured_from_scratch(
    evaluated: tuple[Path, list[tuple[int, int]]], model: str
) -> None:
    benchmark, noise = read_benchmark(BENCHMARK), noise_of(evaluated[0])
    first, second = noise["systems"]
    for kind, severity, languages in (("swap", 0.3, ["de", "en", "zh"]), ("keyboard", 0.1, ["de", "en"])):
        draws = [under(benchmark, Condition(perturbation=kind, severity=severity, seed=n)) for n in range(2)]
        encoder = Encoder.load(EncoderConfig(name=model))
        by_system = {
            first: [summarise(evaluate_encoder(encoder, one), one) for one in draws],
            second: [summarise(evaluate_scores(bm25_scorer(one), one), one) for one in draws],
        }
        for system, found in by_system.items():
            for setting in ("monolingual", "multilingual"):
                of = [[one["per_language"][x][setting]["RR@10"] for one in found] for x in languages]
                row = row_of(noise, system, f"{kind} {severity}", setting)
                # blocks of other queries may round an embedding otherwise, and swap ranks that nearly tie: at most one
                # of a language's 13 queries by .5
                assert row["noisy"] == pytest.approx(np.mean(of), abs=0.5 / 13)
                for x, values in zip(languages, of, strict=True):
                    own = row_of(noise, system, f"{kind} {severity}", setting, x)["noisy"]
                    assert own == pytest.approx(np.mean(values), abs=1e-9 if system == second else 0.5 / 13)
                assert row["drop"]["difference"] == pytest.approx(row["plain"] - row["noisy"], abs=1e-12)
        texts = [[query.text for query in one.queries] for one in (benchmark, *draws)]
        asked = [query.language in languages for query in benchmark.queries]
        cell = next(one for one in noise["cells"] if one["name"] == f"{kind} {severity}")
        changed = sum(a != b for draw in texts[1:] for a, b in zip(texts[0], draw, strict=True))
        assert cell["changed"] == pytest.approx(changed / sum(asked) / 2)
        assert cell["languages"] == languages
        assert 0 < cell["tokens_changed"][first] <= cell["changed"]


def test_passages_are_embedded_once(evaluated: tuple[Path, list[tuple[int, int]]]) -> None:
    output, encoded = evaluated
    assert [passages for _, passages in encoded] == [encoded[0][1], 0, 0, 0, 0]
    assert encoded[0][1] > 0
    cells = noise_of(output)["cells"]
    n = {"swap": encoded[0][0], "keyboard": encoded[0][0] * 2 // 3}  # a third of the queries is Chinese
    assert [queries for queries, _ in encoded[1:]] == [round(one["changed"] * 2 * n[one["kind"]]) for one in cells]


def test_the_page_says_where_noise_does_not_apply(evaluated: tuple[Path, list[tuple[int, int]]]) -> None:
    output, _ = evaluated
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "keyboard does not apply to zh." in page
    assert '<h2 id="noise">Queries with noise' in page
    assert "RR@10 with and without noise" in (output / "table.md").read_text(encoding="utf-8")
    assert {row["kind"] for row in noise_of(output)["areas"]["BM25"]} == {"swap", "keyboard"}
    assert {row["cell"] for row in noise_of(output)["against"]} == {one["name"] for one in noise_of(output)["cells"]}


def test_severity_0_costs_nothing(model: str, tmp_path: Path) -> None:
    grid = NoiseGrid(kinds=("swap",), severities=(0.0,), draws=1)
    run_evaluation(recipe(tmp_path / "out", "bm25", noise=grid), encode_here, track_nothing)
    noise = noise_of(tmp_path / "out")
    assert noise["cells"][0]["changed"] == 0
    for row in noise["systems"]["BM25"]:
        assert row["noisy"] == row["plain"]


def test_embeddings_made_elsewhere(
    evaluated: tuple[Path, list[tuple[int, int]]], model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The noisy queries are exported, embedded by another program, and measured to the same numbers."""
    grid = replace(GRID, export=str(tmp_path / "noisy.jsonl"))
    preview_evaluation(recipe(tmp_path / "out", model, noise=grid, dry_run=True))
    rows = [json.loads(line) for line in Path(grid.export).read_text(encoding="utf-8").splitlines()]
    assert rows[0].keys() == {"id", "language", "text"}
    assert len({row["id"] for row in rows}) == len(rows)
    encoder, benchmark = Encoder.load(EncoderConfig(name=model)), read_benchmark(BENCHMARK)
    ids = [query.query_id for query in benchmark.queries] + [row["id"] for row in rows]
    texts = [query.text for query in benchmark.queries] + [row["text"] for row in rows]
    folder = tmp_path / "vectors"
    plain, passages = encoder.encode(texts[: len(benchmark.queries)], "query"), benchmark.passages.texts
    write_embeddings(str(folder), benchmark, plain, encoder.encode(passages, "passage"))
    (folder / "queries.parquet").unlink()
    np.save(folder / "queries.npy", encoder.encode(texts, "query"))
    (folder / "queries.ids.txt").write_text("\n".join(ids), encoding="utf-8")
    run_evaluation(recipe(tmp_path / "out", str(folder), noise=GRID), encode_here, track_nothing)
    found, expected = noise_of(tmp_path / "out"), noise_of(evaluated[0])
    for one, other in zip(*(next(iter(x["systems"].values())) for x in (found, expected)), strict=True):
        assert one["noisy"] == pytest.approx(other["noisy"], abs=0.5 / 13)
    assert found["cells"][0]["tokens_changed"] == {"vectors": None}
    more = replace(GRID, draws=3)
    with pytest.raises(ValueError, match=r"queries.npy lacks \d+ of the \d+ queries"):
        run_evaluation(recipe(tmp_path / "more", str(folder), noise=more), encode_here, track_nothing)


def test_real_noisy_queries(tmp_path: Path) -> None:
    benchmark = read_benchmark(BENCHMARK)
    [first, second] = [query for query in benchmark.queries if query.language == "en"][:2]
    lines = [
        {"query_id": first.query_id, "text": "zzz", "noise": "spoken"},
        {"query_id": second.query_id, "text": second.text, "noise": "spoken"},
    ]
    file = tmp_path / "real.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    run_evaluation(recipe(tmp_path / "out", "bm25", noise=NoiseGrid(queries=str(file))), encode_here, track_nothing)
    noise = noise_of(tmp_path / "out")
    [cell] = noise["cells"]
    n_english = sum(query.language == "en" for query in benchmark.queries)
    assert (cell["name"], cell["kind"], cell["severity"], cell["languages"]) == ("spoken", "", None, ["en"])
    assert cell["changed"] == pytest.approx(1 / n_english)
    row = row_of(noise, "BM25", "spoken", "monolingual")
    # "zzz" is in no passage: all scores tie, and the answer's place among the English passages is its rank
    place = benchmark.relevant[benchmark.queries.index(first)]
    english = [n for n, passage in enumerate(benchmark.passages) if passage.language == "en"]
    rank = 1 + min(english.index(p) for p in place if p in english)
    before = evaluate_scores(bm25_scorer(benchmark), benchmark)
    [own] = before.values["RR@10"][
        0, (before.rows["query_id"] == first.query_id) & (before.rows["setting"] == "monolingual")
    ]
    assert row["plain"] - row["noisy"] == pytest.approx((own - (1 / rank if rank <= 10 else 0)) / n_english)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"query_id": "en:nothing", "text": "a"}',
            r"real.jsonl:1 has query_id 'en:nothing', which the benchmark",
        ),
        ('{"text": "a"}', r"real.jsonl:1 has no query_id and text"),
        ("[1]", r"real.jsonl:1 has no query_id and text"),
        ('{"query_id": [], "text": "a"}', r"real.jsonl:1 has query_id \[\], which the benchmark"),
        ('{"query_id": "FIRST", "text": "a \\ud83d"}', r"real.jsonl:1 has the text 'a \\ud83d'"),
        ('{"query_id": "FIRST", "text": "\\u200b"}', r"real.jsonl:1 has the text '\\u200b'"),
        ("", r"real.jsonl, which has no lines"),
    ],
)
def test_what_a_file_of_queries_cannot_be(line: str, message: str, tmp_path: Path) -> None:
    benchmark = read_benchmark(BENCHMARK)
    line = line.replace("FIRST", benchmark.queries[0].query_id)
    (tmp_path / "real.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        NoiseGrid(queries=str(tmp_path / "real.jsonl")).cells(benchmark)


def test_what_a_grid_cannot_be() -> None:
    for fields, message in (
        ({"kinds": ("typo",)}, r"noise.kinds has 'typo': name some of delete"),
        ({"kinds": ("swap", "swap")}, r"noise.kinds is \('swap', 'swap'\): each may be named only once"),
        ({"kinds": ("swap",), "severities": ()}, r"noise.severities is empty"),
        ({"severities": (2.0,)}, r"one of noise.severities is 2.0: it must be from 0 to 1"),
        ({"draws": 0}, r"noise.draws is 0: it must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            NoiseGrid(**fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"noise.kinds has thai_order, which applies to none of the languages"):
        NoiseGrid(kinds=("thai_order",)).cells(read_benchmark(BENCHMARK))
