"""The model card says what the files of the run say, and the hub's own library reads its metadata."""

import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import HOSTILE, live, small_recipe
from huggingface_hub import ModelCard

from hybridir.batches.sampling import KINDS
from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.data.sources import contents_key, find_shards
from hybridir.evaluation.settings import SETTINGS
from hybridir.reports.model_card import method_name, write_model_card
from hybridir.runs.backend import here
from hybridir.runs.training_run import run_training

LANGUAGES = {"languages": ("de", "en")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run from nothing on two languages, measured on three."""
    output = tmp_path_factory.mktemp("card") / "run"
    prefixes = {"query_prefix": "Query: ", "passage_prefix": "Passage: "}
    recipe = small_recipe(output, cache, sampling=LANGUAGES, validation=LANGUAGES, encoder=prefixes)
    run_training(
        replace(recipe, benchmark=BenchmarkConfig(facts=80, languages=("de", "en", "es"))), nullcontext(here())
    )
    return output


@pytest.fixture
def changed(run: Path, tmp_path: Path) -> Callable[..., ModelCard]:
    """`changed({"data": {...}}, {...})`: the card of the run with other entries in config.yaml and results.json."""

    def write(config: dict[str, dict[str, Any]], results: dict[str, Any] | None = None) -> ModelCard:
        output = tmp_path / "run"
        shutil.copytree(run, output, dirs_exist_ok=True, ignore=shutil.ignore_patterns("checkpoints"))
        whole = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        whole |= {name: whole[name] | section for name, section in config.items()}
        (output / "config.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
        found = read(run / "results.json") | (results or {})
        (output / "results.json").write_text(json.dumps(found), encoding="utf-8")
        write_model_card(output)
        return ModelCard.load(output / "model" / "README.md")

    return write


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_metadata_holds_the_results_exactly(run: Path) -> None:
    data, results = ModelCard.load(run / "model" / "README.md").data, read(run / "results.json")
    assert (data.library_name, data.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert data.language == ["de", "en"]
    assert (data.base_model, data.datasets, data.license) == (None, None, None)
    found = {(one.dataset_config, one.metric_type): one.metric_value for one in data.eval_results}
    expected = {
        (setting, measure): value
        for setting in SETTINGS
        for measure, value in results[setting].items()
        if measure not in ("n_queries", "excluded", "n_clusters")
    }
    assert found == expected
    assert len(expected) == len(data.eval_results) > 18
    assert {(one.task_type, one.dataset_type) for one in data.eval_results} == {("information-retrieval", "sample")}


def test_the_page_says_what_the_files_say(run: Path) -> None:
    text, results = ModelCard.load(run / "model" / "README.md").text, read(run / "results.json")
    headings = ["run", "Use", "Data", "Results", "Language bias", "How it was made"]
    assert re.findall(r"^#+ (.*)", text, re.MULTILINE) == headings
    for words in (
        "from random weights (layers: 1, width: 32)",
        "hybrid, alpha = 0.5 (batches: mono 0.5, cross 0.5)",
        "Languages trained on: de, en\n",
        "Languages only tested: es\n",
        "| sample | sample | Unicode-3.0 |",
        read(run / "data_card.json")["fingerprint"],
        "`query` ('Query: ') and `passage` ('Passage: ')",
        f"torch {results['versions']['torch']}",
    ):
        assert words in text
    cells = []
    for one in (results, results["systems"]["untrained"], results["systems"]["BM25"]):
        low, high = one["intervals"]["crosslingual"]["mAP"]["interval"]
        cells.append(f"{one['crosslingual']['mAP']:.3f} [{low:.3f}, {high:.3f}]")
    assert f"| crosslingual | mAP | {' | '.join(cells)} |" in text
    low, high = results["language_intervals"]["es"]["monolingual"]["mAP"]
    spanish = results["per_language"]["es"]["monolingual"]["mAP"]
    assert f"| es (only tested) | {spanish:.3f} [{low:.3f}, {high:.3f}] |" in text
    low, high = results["intervals"]["multilingual"]["rank_distance"]["interval"]
    distance = f"{results['multilingual']['rank_distance']:.1f} [{low:.1f}, {high:.1f}]"
    assert f"| rank distance of parallel answers | {distance} |" in text
    shown = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    whole = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert whole == shown | {name: whole[name] for name in ("tracking", "output", "cache", "resume", "dry_run")}


def test_python_of_the_card_runs(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    text = (run / "model" / "README.md").read_text(encoding="utf-8")
    with redirect_stdout(io.StringIO()) as out:
        exec(text.split("```python\n")[1].split("```")[0], {})
    assert out.getvalue().startswith("tensor([[")


def test_base_model(changed: Callable[..., ModelCard], run: Path) -> None:
    hub = changed({"encoder": {"name": "FacebookAI/xlm-roberta-base"}})
    assert hub.data.base_model == "FacebookAI/xlm-roberta-base"
    assert "Base model: [FacebookAI/xlm-roberta-base](https://huggingface.co/FacebookAI/xlm-roberta-base)\n" in hub.text
    folder = changed({"encoder": {"name": str(run / "initial")}})
    assert folder.data.base_model is None
    assert f"Base model: `{run / 'initial'}`\n" in folder.text


def test_sources_and_licences(changed: Callable[..., ModelCard]) -> None:
    plain = {"name": "", "path": "", "format": "jsonl", "license": None}
    sources = [
        plain | {"path": "hf://datasets/someone/pairs", "license": "MIT"},
        plain | {"path": "/data/own.jsonl", "name": "own"},
    ]
    card = changed({"data": {"sources": sources, "validation": plain | {"format": "lareqa", "path": "xquad-r"}}})
    assert card.data.datasets == ["someone/pairs"]
    for row in (
        "| hf://datasets/someone/pairs | jsonl | MIT |",
        "| own | jsonl | not stated |",
        "| xquad-r | lareqa | XQuAD-R: CC-BY-SA-4.0, MLQA-R: CC-BY-NC-4.0 |",
    ):
        assert row in card.text


def test_bias_is_shown_where_it_was_measured(changed: Callable[..., ModelCard], run: Path) -> None:
    assert "Rank correlation (higher is better)" in changed({}).text
    assert "Rank correlation" not in changed({}, {"bias": {}}).text
    bias = {
        "preference_rate": {"mean": 0.625},
        "rank_correlation": {"mean": 0.5},
        "score_margin": {"mean": -0.125},
        "top_k_languages": {"k": 10, "kl": 0.75},
        "min_max": {"monolingual": {"min": ["de", 0.1], "max": ["en", 0.4], "ratio": 0.25}},
    }
    pooled = read(run / "results.json")["multilingual"] | {"rank_distance_log2": 2.5}
    text = changed({}, {"bias": bias, "multilingual": pooled}).text
    rows = [line.split(" | ")[1] for line in text.split("## Language bias")[1].splitlines() if line.startswith("| ")]
    assert rows[4].startswith("2.50")
    assert ["2.50", *rows[5:]] == ["2.50", "0.750", "0.625", "0.500", "-0.125", "0.250"]


def test_secrets_are_masked(changed: Callable[..., ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_TOKEN", "SECOND-CANARY")
    data = {"path": "s3://key:CANARY@bucket/x", "license": "SECOND-CANARY"}
    card = changed({"data": data, "tracking": {"uri": "http://me:CANARY@host"}})
    assert "s3://***@bucket/x" in card.text
    assert "CANARY" not in card.content


@pytest.mark.parametrize(
    ("weights", "languages", "name"),
    [
        ((1, 0, 0), None, "X-X-mono"),
        ((1, 0, 0), ["en"], "En-En"),
        ((0, 1, 0), None, "X-X"),
        ((0, 0, 1), None, "X-Y"),
        ((0.25, 0, 0.75), None, "hybrid, alpha = 0.25"),
        ((0.5, 0.25, 0.25), None, ""),
        ((0, 0, 0, 1), None, "sum"),
    ],
)
def test_methods_have_their_names(weights: tuple[float, ...], languages: list[str] | None, name: str) -> None:
    assert (
        method_name(
            dict.fromkeys(KINDS, 0)
            | dict(zip(KINDS, weights, strict=False))
            | {"languages": languages, "mono_first": 0}
        )
        == name
    )


def test_a_new_kind_of_batch_breaks_no_card(changed: Callable[..., ModelCard], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridir.reports.model_card.KINDS", (*KINDS, "triple"))
    assert "Mix: hybrid, alpha = 0.5 (batches: mono 0.5, cross 0.5)\n" in changed({}).text  # a config without it
    card = changed({"sampling": {"mono": 0.25, "triple": 0.25}})
    assert "Mix: without a name (batches: mono 0.25, cross 0.5, triple 0.25)\n" in card.text


def test_terms_of_the_loss_and_noise(changed: Callable[..., ModelCard], run: Path) -> None:
    assert ">info_nce 1<" in "".join((run / "report.html").read_text(encoding="utf-8").split("\n"))
    assert "\n- Loss: info_nce 1\n- Languages trained on: " in changed({}).text
    noise = {"noise": {"probability": 0.3, "kinds": ["delete", "swap"]}}
    text = changed({"loss": {"symmetric": {"weight": 0.5}}, "sampling": noise}).text
    assert "\n- Loss: info_nce 1, symmetric 0.5\n- Noise: in 30% of the queries: delete, swap\n" in text


def test_the_card_begins_with_what_was_trained_on_what(changed: Callable[..., ModelCard]) -> None:
    said = "Trained on faq.csv, measured on its held-out part."
    assert changed({}, {"about": said}).text.strip().startswith(f"# run\n\n{said}\n\nA dual encoder")


def test_hostile_names_are_text_in_the_card(changed: Callable[..., ModelCard], run: Path) -> None:
    """Of sources, of the base model, of a system that was compared, of domains and libraries; and what was typed."""
    found = read(run / "results.json")
    before = live(changed({}).text)
    source = {"name": HOSTILE, "path": HOSTILE, "format": "jsonl", "license": HOSTILE}
    card = changed(
        {"data": {"sources": [source], "validation": None}, "encoder": {"name": HOSTILE}},
        {
            "about": HOSTILE,
            "benchmark": HOSTILE,
            "languages": [*found["languages"], HOSTILE],
            "systems": {HOSTILE: found["systems"]["BM25"]},
            "versions": {"python": HOSTILE},
        },
    )
    assert card.text.count("canary") > 8
    assert before == live(card.text)


def test_a_licence_does_not_change_the_corpus() -> None:
    keys = {contents_key(find_shards(DataConfig(facts=80, license=license)), 0.05) for license in (None, "MIT")}
    assert len(keys) == 1
