"""Own data by one flag: what is read, trained on, measured on, and what is said about it."""

import io
import json
import re
import runpy
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, job

from hybridir.data.config import Source
from hybridir.data.formats import BENCHMARKS, PAIR_READERS, sample
from hybridir.data.records import Pair
from hybridir.evaluation.validation_metrics import METRICS
from hybridir.perturbations import PERTURBATIONS
from hybridir.training.losses import LOSSES

SMALL = [
    *("--scaling.num_workers", "0", "--train.warmup_steps", "2", "--validation.batches", "2"),
    *("--encoder.hidden_size", "32", "--encoder.layers", "1", "--encoder.vocab_size", "600"),
]
LANGUAGES = ("de", "en", "es")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 60 questions, each in three languages."""
    file = tmp_path_factory.mktemp("own") / "faq.jsonl"
    (shard,) = sample.find_shards(Source(format="sample", facts=75, languages=LANGUAGES))
    rows = [
        {"group_id": one.group_id, "language": one.language, "query": one.query, "passage": one.passage.text}
        for one in shard.read()
        if isinstance(one, Pair)
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def run(pairs: Path) -> tuple[Path, str]:
    """A run on them, and what it printed."""
    output = pairs.parent / "run"
    done = job("--data.path", pairs, *SMALL, "--train.epochs", 2, "--train.batch_size", 16, "--output", output)
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def test_it_is_trained_and_measured_on_these_data(run: tuple[Path, str], pairs: Path) -> None:
    output, said = run
    config = yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))
    assert (config["data"]["format"], config["data"]["test_share"]) == ("jsonl", 0.2)
    assert (config["benchmark"]["name"], config["benchmark"]["path"]) == ("heldout", "")
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    parts = json.loads((output / "data_card.json").read_text(encoding="utf-8"))["parts"]
    assert results["benchmark"] == "heldout"
    assert results["monolingual"]["n_queries"] == parts["test"]["pairs"] == 3 * parts["test"]["groups"] > 0
    assert results["languages"] == list(LANGUAGES)
    expected = (
        f"A new small encoder, trained on {parts['train']['pairs']} pairs ({parts['train']['groups']} questions) of "
        f"faq.jsonl in de, en and es; measured on {parts['test']['groups']} held-out questions of these data "
    )
    assert results["about"].startswith(expected)
    for text in (
        said,
        *((output / name).read_text(encoding="utf-8") for name in ("table.md", "report.html", "model/README.md")),
    ):
        assert expected in text
    assert "no encoder is named" in said


def test_epochs_are_steps(run: tuple[Path, str]) -> None:
    """Two epochs of n pairs in batches of 16; after i items, 1 - (1 - 1/n) ** i of the pairs are expected."""
    output, said = run
    pairs = json.loads((output / "data_card.json").read_text(encoding="utf-8"))["parts"]["train"]["pairs"]
    steps = -(-2 * pairs // 16)
    train = yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))["train"]
    assert (train["steps"], train["epochs"]) == (steps, None)
    share = 1 - (1 - 1 / pairs) ** (steps * 16)
    assert f"{steps} steps of 16 items are {steps * 16 / pairs:.3g} epochs of {pairs} pairs" in said
    assert f"about {share:.1%} of the pairs" in said


def test_a_finished_run_of_epochs_is_left_as_it_is(run: tuple[Path, str], pairs: Path) -> None:
    options = ["--data.path", pairs, *SMALL, "--train.epochs", 2, "--train.batch_size", 16, "--output", run[0]]
    for again in ([*options, "--resume"], ["--config", run[0] / "config.yaml", "--resume"]):
        done = job(*again)
        assert done.returncode == 0, done.stderr
        assert "is finished" in done.stdout


def test_validation_batches_fit_the_data(run: tuple[Path, str]) -> None:
    groups = json.loads((run[0] / "data_card.json").read_text(encoding="utf-8"))["parts"]["validation"]["groups"]
    assert groups < 32
    assert f"validation batches have {groups} pairs instead of 32" in run[1]


def test_other_systems_are_measured_on_the_same_questions(run: tuple[Path, str], tmp_path: Path) -> None:
    """By the run's folder alone, by name, and by the path; the numbers are those of the run itself."""
    output = run[0]
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    ways = [[], ["--benchmark.name", "heldout"], ["--benchmark.name", "heldout", "--benchmark.path", output]]
    for n, way in enumerate(ways):
        options = ["--encoder.name", output, "--compare_to", "[bm25]", *way, "--output", tmp_path / str(n)]
        done = job(*options, name="evaluate")
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / str(n) / "results.json").read_text(encoding="utf-8"))
        assert found["monolingual"]["mAP"] == pytest.approx(results["monolingual"]["mAP"], abs=1e-6)
        assert f"run and BM25, measured on {results['monolingual']['n_queries'] // 3} held-out questions" in done.stdout
    options = ["--encoder.name", "bm25", "--benchmark.name", "validation", "--benchmark.path", output]
    done = job(*options, "--output", tmp_path / "validation", name="evaluate")
    assert done.returncode == 0, done.stderr
    alone = job("--encoder.name", "bm25", "--benchmark.name", "heldout", name="evaluate")
    assert "name the folder of the run as benchmark.path" in alone.stderr


def test_every_error_is_told_at_once(pairs: Path, tmp_path: Path) -> None:
    done = job(
        *("--data.path", pairs, *SMALL, "--output", tmp_path / "run", "--train.batch_size", 500),
        *(
            "--data.languages",
            "[de, en, el]",
            "--sampling.languages",
            "[de, en, tr]",
            "--validation.languages",
            "[en, vi]",
        ),
        *("--benchmark.name", "xquad-r", "--benchmark.path", tmp_path / "nowhere"),
    )
    assert done.returncode != 0
    for message in (
        "5 things have to be corrected",
        "- no LANGUAGE.json found in",
        "- data.languages has el",
        "- sampling.languages has tr",
        "- validation.languages has vi",
        "- a mono batch needs 500 groups",
    ):
        assert message in done.stderr, done.stderr
    (largest,) = re.findall(r"and there are (\d+)\. Lower train\.batch_size to (?:\d+)", done.stderr)
    fits = job("--data.path", pairs, *SMALL, "--train.batch_size", largest, "--dry_run", "--cache", tmp_path / "cache")
    assert "- a mono batch" not in fits.stderr


def test_the_sample_is_the_default_only_without_data(pairs: Path) -> None:
    def config(*arguments: object) -> dict[str, dict[str, object]]:
        done = job(*arguments, "--print_config")
        assert done.returncode == 0, done.stderr
        return yaml.safe_load(done.stdout)

    assert config()["data"]["format"] == config("--data.format", "sample")["data"]["format"] == "sample"
    for arguments in (("--data.path", pairs), (f"--data.path={pairs}",), ("--data.sources", f"[{{path: {pairs}}}]")):
        own = config(*arguments)
        assert own["data"]["languages"] is own["sampling"]["languages"] is own["validation"]["languages"] is None


@pytest.mark.parametrize("job_name", ["train", "evaluate", "study", "tune"])
def test_help_is_short_and_help_all_is_whole(job_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = ["alpha"] if job_name == "study" else []
    monkeypatch.setenv("COLUMNS", "80")
    short, whole = (job_help(job_name, [*study, option]) for option in ("--help", "--help_all"))
    assert 15 <= len(re.findall(r"^  --\w+\.?\w*", short, flags=re.M)) <= 32
    assert len(short.splitlines()) <= 64
    assert max(map(len, short.splitlines())) <= 80
    assert not re.search(r" \.\.\.$", short, flags=re.M)
    assert "--benchmark.name" in short
    assert "--benchmark.facts" not in short
    assert "--benchmark.facts" in whole
    if job_name == "train":
        assert "--train.tokens" in short
        words = {word.strip("`,") for word in short.split()}
        assert words >= {*LOSSES, *PERTURBATIONS, *PAIR_READERS, *BENCHMARKS, *METRICS}


def job_help(name: str, arguments: list[str]) -> str:
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out, suppress(SystemExit):
        patch.setattr(sys, "argv", [f"jobs/{name}.py", *arguments])
        runpy.run_path(str(ROOT / "jobs" / f"{name}.py"), run_name="__main__")
    return out.getvalue()


def test_the_sample_is_measured_whole_unless_a_model_was_trained_on_it(run: tuple[Path, str], tmp_path: Path) -> None:
    """300 facts: all are asked of a run on other data; a run on the sample has left out a part."""
    facts = {split: len(sample.facts(100, split)) for split in ("all", "test")}
    wanted = ["--benchmark.name", "sample", "--benchmark.facts", 100, "--benchmark.languages", "[de, en]"]
    other = job("--encoder.name", run[0], *wanted, "--output", tmp_path / "other", name="evaluate")
    assert f"{facts['all']} questions of sample, the whole benchmark" in other.stdout
    config = run[0] / "config.yaml"
    own = config.read_text(encoding="utf-8")
    try:
        trained = yaml.safe_load(own)
        trained["data"] |= {"format": "sample", "path": ""}
        config.write_text(yaml.safe_dump(trained), encoding="utf-8")
        same = job("--encoder.name", run[0], *wanted, "--output", tmp_path / "same", name="evaluate")
        assert f"{facts['test']} questions of sample, of what all systems left out" in same.stdout
        assert "run trained on a part of sample: all systems are measured on what that left out" in same.stdout
        assert "all systems are measured on" in (tmp_path / "same" / "report.html").read_text(encoding="utf-8")
        refused = job("--encoder.name", run[0], *wanted, "--benchmark.split", "all", name="evaluate")
        assert "but run trained on a part of sample" in refused.stderr
    finally:
        config.write_text(own, encoding="utf-8")


def test_help_lists_what_there_is() -> None:
    words = " ".join(job("--help_all").stdout.split())
    for name in (*PAIR_READERS, *BENCHMARKS):
        assert f"`{name}`" in words
    assert "{formats}" not in words
    assert "{benchmarks}" not in words
