"""A translation from start to end: every pair once in every language, however often it is interrupted; trained on."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import ROOT, job, read_lines, small_recipe, tiny_translation_model

from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.intake import read_here
from hybridir.data.sets import SETS
from hybridir.data.sources import find_shards
from hybridir.experiments.study import StudyRecipe
from hybridir.runs.backend import here
from hybridir.runs.recipe import ScalingConfig, TrackingConfig
from hybridir.runs.training_run import run_training
from hybridir.runtime import progress
from hybridir.runtime.command_line import parse
from hybridir.runtime.owner import own
from hybridir.translation.gates import GatesConfig
from hybridir.translation.translation_job import Translation, preview_translation, run_translation
from hybridir.translation.translator import ModelConfig
from hybridir.translation.units import PROBE, Done, Unit, Work, read_unit, translate_here

LANGUAGES = ("de", "fr", "sw")
COUNT = 60
WORDS = ["where", "is", "the", "red", "river", "that", "flows", "by", "this", "old", "town"]
WORDS += ["of", "many", "bridges", "and", "who", "built", "them", "when"]


def pairs() -> list[dict[str, Any]]:
    """Two questions to every passage, and a hard negative that is the passage of other pairs."""
    rng = np.random.default_rng(0)
    begins = [" ".join(rng.choice(WORDS, 9)) for _ in range(COUNT // 2)]
    passages = [f"{begin} . Who built it {1000 + n} ?" for n, begin in enumerate(begins)]
    return [
        {
            "group_id": str(n),
            "language": "en",
            "query": f"{WORDS[n % 17]} {WORDS[n % 13]} is this number {n} ?",
            "passage": passages[n // 2],
            "passage_id": f"p{n // 2}",
            "negatives": [{"passage_id": f"p{(n // 2 + 1) % 30}", "text": passages[(n // 2 + 1) % 30]}],
            "negative_scores": [n / 4],
            "domain": "towns" if n % 2 else "",
        }
        for n in range(COUNT)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs, and a model of each kind."""
    folder = tmp_path_factory.mktemp("translation")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs()), encoding="utf-8")
    for family in ("m2m-100", "madlad-400"):
        tiny_translation_model(folder / family, family, WORDS, ("en", *LANGUAGES))
    return folder


def recipe(folder: Path, output: Path, family: str = "m2m-100", **options: Any) -> Translation:
    wanted: dict[str, Any] = {
        "data": DataConfig(format="jsonl", path=str(folder / "pairs.jsonl"), license="CC0-1.0"),
        "gates": GatesConfig(apply=("empty",), length=0),
        "unit": 32,
        "languages": LANGUAGES,
        "model": ModelConfig(name=str(folder / family), family=family, batch_tokens=256),
    }
    return Translation(output=str(output), cache=str(folder / "cache"), **wanted | options)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """An undisturbed translation."""
    return run_translation(recipe(folder, folder / "whole"), read_here, translate_here).parent


def written(output: Path) -> dict[str, bytes]:
    """What must not depend on interruptions."""
    files = ("results.json", *(f"{part}/{code}.jsonl" for part in ("train", "rejected") for code in LANGUAGES))
    return {name: (output / name).read_bytes() for name in files}


def test_every_pair_stands_once_in_every_language(whole: Path) -> None:
    results = json.loads((whole / "results.json").read_text(encoding="utf-8"))
    before = {pair["group_id"]: pair for pair in pairs()}
    translations: dict[tuple[str, str], set[str]] = {}
    for language in ("en", *LANGUAGES):
        there = read_lines(whole / "train" / f"{language}.jsonl")
        rejects = read_lines(whole / "rejected" / f"{language}.jsonl") if language != "en" else []
        assert Counter(one["group_id"] for one in (*there, *rejects)) == dict.fromkeys(before, 1)
        counts = results["languages"][language]
        assert (counts["pairs"], sum(counts["rejected"].values())) == (len(there), len(rejects))
        for one in there:
            old = before[one["group_id"]]
            assert (one["language"], one["passage_id"]) == (language, old["passage_id"])
            assert one.get("domain", "") == old["domain"]
            texts = [(one["passage_id"], one["passage"])]
            texts += [(negative["passage_id"], negative["text"]) for negative in one.get("negatives", [])]
            assert len(texts) == 1 or texts[1][0] == old["negatives"][0]["passage_id"]
            assert one.get("negative_scores", []) == old["negative_scores"] * (len(texts) - 1)
            for name, text in texts:
                translations.setdefault((language, name), set()).add(text)
        left_out = len(there) - sum(len(one.get("negatives", [])) for one in there)
        assert left_out == counts["negatives_left_out"]
        if language == "en":
            assert [one["query"] for one in there] == [old["query"] for old in before.values()]
            assert len({one["passage_group_id"] for one in there}) == COUNT // 2
    assert {len(texts) for texts in translations.values()} == {1}, "a text has one translation in a language"


def test_the_licence_of_the_model_is_on_every_row(whole: Path, folder: Path) -> None:
    licence = f"texts: CC0-1.0. Translated by {folder / 'm2m-100'}@"
    for language in LANGUAGES:
        for one in read_lines(whole / "train" / f"{language}.jsonl"):
            assert one["license"].startswith(licence)
            assert one["license"].endswith(": MIT")
    assert {one["license"] for one in read_lines(whole / "train" / "en.jsonl")} == {"texts: CC0-1.0"}
    assert licence in (whole / "README.md").read_text(encoding="utf-8")


def test_a_row_has_the_licence_of_its_own_source(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    sources = []
    for n, (name, license) in enumerate({"first": "CC0-1.0", "second": "MIT"}.items()):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(lines[4 * n : 4 * n + 4]), encoding="utf-8")
        sources.append(Source(format="jsonl", path=str(file), name=name, license=license))
    wanted = recipe(folder, tmp_path / "out", languages=("de",))
    wanted = dataclasses.replace(wanted, data=DataConfig(sources=tuple(sources)))
    run_translation(wanted, read_here, translate_here)
    for language in ("en", "de"):
        there = read_lines(tmp_path / "out" / "train" / f"{language}.jsonl")
        assert {(one["source"], one["license"].partition(". ")[0]) for one in there} == {
            ("first", "texts: CC0-1.0"),
            ("second", "texts: MIT"),
        }
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["license"].startswith("texts: CC0-1.0; MIT. Translated by ")


class Interrupted(Exception):
    pass


def test_interrupted_after_every_unit_it_ends_as_an_undisturbed_one(folder: Path, whole: Path) -> None:
    made: Counter[Unit] = Counter()

    def once(work: Work, units: Sequence[Unit]) -> Iterator[Done]:
        for done in translate_here(work, units):
            yield done
            if done.unit.shard != PROBE:
                made[done.unit] += 1
                raise Interrupted

    output, starts = folder / "interrupted", 0
    while not (output / "results.json").exists():
        starts += 1
        with contextlib.suppress(Interrupted):
            run_translation(recipe(folder, output, resume=starts > 1), read_here, once)
    assert (len(made), set(made.values()), starts) == (3 * 3, {1}, 3 * 3 + 1), "90 texts in units of 32"
    assert written(output) == written(whole)


def test_it_continues_with_the_same_pairs_wherever_they_lie_and_with_no_others(folder: Path, tmp_path: Path) -> None:
    """Reversed rows have the fingerprint of the old ones, but other places."""

    def interrupted(work: Work, units: Sequence[Unit]) -> Iterator[Done]:
        yield from translate_here(work, units[:1])
        if units[0].shard != PROBE:
            raise Interrupted

    def moved(lines: list[str], **options: Any) -> Translation:
        (tmp_path / "moved.jsonl").write_text("".join(lines), encoding="utf-8")
        data = DataConfig(format="jsonl", path=str(tmp_path / "moved.jsonl"), license="CC0-1.0")
        return recipe(folder, tmp_path / "out", languages=("de",), data=data, **options)

    lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    with pytest.raises(Interrupted):
        run_translation(recipe(folder, tmp_path / "out", languages=("de",)), read_here, interrupted)
    before = (tmp_path / "out" / "config.yaml").read_bytes()
    for others in (lines[::-1], lines[:-1], [lines[0].replace("?", "!"), *lines[1:]]):
        with pytest.raises(
            ValueError, match=r"units/texts has the texts of other pairs.*give the old ones by data\.path"
        ):
            run_translation(moved(others, resume=True), read_here, translate_here)
    assert (tmp_path / "out" / "config.yaml").read_bytes() == before
    run_translation(moved(lines, resume=True), read_here, translate_here)
    fresh = run_translation(recipe(folder, tmp_path / "fresh", languages=("de",)), read_here, translate_here).parent
    translated = Path("train", "de.jsonl")
    assert (tmp_path / "out" / translated).read_bytes() == (fresh / translated).read_bytes()


def test_a_damaged_unit_is_made_again(folder: Path, whole: Path) -> None:
    output = folder / "damaged"
    shutil.copytree(whole, output)
    (output / "results.json").unlink()
    units = sorted((output / "units").glob("*.arrow"))
    text, sound = max(read_unit(units[0])["text"].to_pylist(), key=len).encode(), units[0].read_bytes()
    units[0].write_bytes(sound.replace(text, bytes([text[0] ^ 1]) + text[1:]))
    units[1].write_bytes(units[1].read_bytes()[:-40])
    units[2].unlink()
    assert [read_unit(unit) is None for unit in units[:4]] == [True, True, True, False]
    translated: list[Unit] = []

    def seen(work: Work, some: Sequence[Unit]) -> Iterator[Done]:
        translated.extend(one for one in some if one.shard != PROBE)
        return translate_here(work, some)

    run_translation(recipe(folder, output, resume=True), read_here, seen)
    assert len(translated) == 3
    assert written(output) == written(whole)
    assert units[0].read_bytes() == sound


def test_of_two_drivers_on_one_output_the_second_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "jobs/translate.py", "--output", str(tmp_path), "--languages", "[de]"]
    with own(tmp_path):
        second = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert second.returncode == 1
    assert "belongs to a run that is going on" in second.stderr


def test_a_t5_translates_too_and_parquet_holds_the_same_as_json_lines(folder: Path, tmp_path: Path) -> None:
    for form in ("jsonl", "parquet"):
        wanted = recipe(folder, tmp_path / form, "madlad-400", form=form, languages=("de",))
        run_translation(wanted, read_here, translate_here)
    lines = read_lines(tmp_path / "jsonl" / "train" / "de.jsonl")
    rows = pq.read_table(tmp_path / "parquet" / "train" / "de.parquet").to_pylist()
    for row in rows:
        row["negatives"] = [{k: v for k, v in one.items() if v is not None} for one in row["negatives"]]
    assert [{k: v for k, v in row.items() if v not in ("", [])} for row in rows] == lines
    assert len(lines) + len(read_lines(tmp_path / "jsonl" / "rejected" / "de.jsonl")) == COUNT
    assert lines[0]["license"].endswith(": Apache-2.0")


def test_training_takes_the_pairs_as_they_are(whole: Path, tmp_path: Path) -> None:
    wanted = small_recipe(
        tmp_path / "run",
        tmp_path / "cache",
        data={"languages": None, "format": "jsonl", "path": str(whole / "train"), "validation_share": 0.2},
        sampling={"mono": 0.5, "cross": 0.5, "languages": ("en", *LANGUAGES)},
        train={"steps": 2, "batch_size": 4, "lr": 1e-3, "warmup_steps": 1, "checkpoint_every": 2},
        validation={"every": 2, "batches": 2, "batch_size": 2, "metric": "loss"},
    )
    benchmark = BenchmarkConfig(facts=60, languages=("de", "en"))
    wanted = dataclasses.replace(wanted, tracking=TrackingConfig(enabled=False), benchmark=benchmark)
    run_training(wanted, contextlib.nullcontext(here()))
    card = json.loads((tmp_path / "run" / "data_card.json").read_text(encoding="utf-8"))
    assert set(card["languages"]) == {"en", *LANGUAGES}
    assert card["rejected"] == {}
    assert "4" in card["groups_by_number_of_languages"]
    assert card["warnings"] == [] or all("license" not in one for one in card["warnings"])
    shown = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "texts: CC0-1.0. Translated by" in shown
    assert shown.count("Translated by") == 1
    assert "Licence that rows name: texts: CC0-1.0\n" in shown


def test_the_estimate_and_the_progress_say_what_a_known_run_takes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 pairs of two texts of 10 characters each, in two units; a unit takes 20 and 30 seconds of a made-up clock."""
    clock = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(progress, "LOOK", 0.01)
    shown = ""

    def known(work: Work, units: Sequence[Unit]) -> Iterator[Done]:
        nonlocal shown
        if units[0].shard == PROBE:
            yield Done(units[0], 2.0, 1000)
            return
        yield Done(units[0], 20.0, 4000, {"copy": 3, "empty": 4})
        clock[0] += 20  # after the unit is counted, so that the thread that looks sees both
        deadline = time.monotonic() + 30
        while "(50%)" not in shown and time.monotonic() < deadline:
            shown += capsys.readouterr().out
            time.sleep(0.01)
        clock[0] += 30
        yield Done(units[1], 30.0, 4000, {"copy": 5})

    rows = [{"group_id": str(n), "language": "en", "query": f"q {n:08}", "passage": f"p {n:08}"} for n in range(400)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = DataConfig(format="jsonl", path=str(tmp_path / "pairs.jsonl"))
    wanted = recipe(folder, tmp_path / "out", data=data, unit=400, languages=("de",), price=3600.0)
    with pytest.raises(ValueError, match="is missing or damaged"):  # as no file is written here
        run_translation(wanted, read_here, known)
    shown += capsys.readouterr().out
    assert "8,000 characters to translate, at 500 a second on each of 1 workers" in shown
    assert "about 0 minutes (16 s), cost about 16.00\n" in shown
    assert "translated 200 pairs (50%), 10 pairs/s, 20 s left, 4 empty, 3 copy\n" in shown
    assert "translated 400 pairs in 50 s (8 pairs/s), 8 copy, 4 empty\n" in shown
    capsys.readouterr()
    shared = dataclasses.replace(wanted, scaling=ScalingConfig(num_workers=4))
    preview_translation(shared, read_here, known)
    assert "on each of 2 workers: about 0 minutes (8 s), cost about 16.00\n" in capsys.readouterr().out


def test_the_estimate_comes_before_the_start(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preview_translation(recipe(folder, tmp_path / "none", price=3600.0), read_here, translate_here)
    shown = capsys.readouterr().out
    texts = {text for pair in pairs() for text in (pair["query"], pair["passage"])}
    assert "60 pairs in en, 90 different texts" in shown
    assert f"{3 * sum(map(len, texts)):,} characters to translate" in shown
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("named", "cache"), [("new/cache", "new/cache"), ("", "out/cache")])
def test_a_dry_run_keeps_what_workers_read_in_the_cache(folder: Path, tmp_path: Path, named: str, cache: str) -> None:
    """Workers are on other nodes, which see the cache, but not the temporary folder of this one."""
    seen: list[Path] = []

    def probed(work: Work, units: Sequence[Unit]) -> Iterator[Done]:
        assert work.texts.n_shards == 3
        seen.append(Path(work.folder))
        return translate_here(work, units)

    wanted = recipe(folder, tmp_path / "out" / "translated")
    wanted = dataclasses.replace(wanted, cache=named and str(tmp_path / named))
    preview_translation(wanted, read_here, probed)
    assert seen[0].is_relative_to(tmp_path / cache)
    assert not seen[0].exists()
    assert not Path(wanted.output).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"languages": ()}, "languages is empty"),
        ({"languages": ("en", "de")}, "languages has 'en', the source"),
        ({"languages": ("german",)}, "'german', an unknown code"),
        ({"languages": ("te",)}, "does not know the language 'te' .looked for __te__"),
        ({"model": ModelConfig(name="facebook/m2m100_418M")}, "model.revision is None: name the commit"),
        ({"model": ModelConfig(name="/nowhere/x", revision="a" * 40)}, "does not say which family"),
        ({"model": ModelConfig(name="google/madlad400-x", revision="a" * 40)}, "no translation model at"),
        ({"gates": GatesConfig(encoder="x/labse")}, "gates.revision is None: name the commit of x/labse"),
        ({"gates": GatesConfig(encoder="x/labse", revision="main")}, "gates.revision is 'main': name the commit"),
        ({"gates": GatesConfig(encoder="x/labse", revision="a" * 40)}, "no encoder at 'x/labse'"),
        ({"form": "csv"}, "form is 'csv'"),
        ({"data": DataConfig(path="/nowhere.csv")}, "'/nowhere.csv' does not exist"),
        ({"data": DataConfig(languages=("de",))}, "data.languages is .*: leave it out"),
    ],
)
def test_mistakes_are_told_before_the_start(folder: Path, tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_translation(dataclasses.replace(recipe(folder, tmp_path / "out"), **options), read_here, translate_here)
    assert not (tmp_path / "out").exists()


def test_that_a_model_is_not_for_commercial_use_is_said_whatever_licence_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_translation_model(tmp_path / "model", "nllb-200", WORDS, ("eng_Latn", "deu_Latn"))

    def known(work: Work, units: Sequence[Unit]) -> Iterator[Done]:
        yield Done(units[0], 1.0, 1000)

    said = f"{model}: such models are CC-BY-NC-4.0, not for commercial use, nor is their output"
    for license, end in (("", "\n"), ("a contract", ", unless your licence, a contract, permits it\n")):
        config = ModelConfig(name=str(model), family="nllb-200", license=license)
        preview_translation(recipe(folder, tmp_path / "out", model=config, languages=("de",)), read_here, known)
        assert said + end in capsys.readouterr().out
    preview_translation(recipe(folder, tmp_path / "out", languages=("de",)), read_here, known)
    assert "commercial" not in capsys.readouterr().out


def test_the_translation_model_is_not_taken_to_check_itself(folder: Path, tmp_path: Path) -> None:
    gates = GatesConfig(encoder=f"{folder}/./m2m-100")
    with pytest.raises(ValueError, match=r"gates\.encoder must be an encoder of its own"):
        run_translation(recipe(folder, tmp_path / "out", gates=gates), read_here, translate_here)


def test_the_paper_s_translation_asks_for_commits_and_its_study_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(ROOT / "jobs" / "configs" / "paper_translation.yaml")
    wanted = parse(Translation, "", "", ["--config", config, "--output", ""])
    formats = {source.format for source in wanted.data.sources}
    assert formats == SETS.keys() - {"squadshifts"}, "which is for validation"
    assert wanted.languages == ("ar", "de", "es", "fr", "hi", "ja", "ru", "zh")
    with pytest.raises(ValueError, match=r"model\.revision is 'CHANGE-ME': name the commit"):
        preview_translation(wanted, read_here, translate_here)
    with pytest.raises(ValueError, match=r"data\.revision is 'CHANGE-ME': name the commit of microsoft/wiki_qa"):
        find_shards(wanted.data)
    study = parse(StudyRecipe, "", "", ["--config", str(ROOT / "jobs" / "configs" / "paper.yaml")])
    assert [source.format for source in study.data.sources] == ["jsonl", "mmarco"]


def test_it_is_not_taken_for_another_kind_of_folder(whole: Path) -> None:
    done = job("--output", whole, "--data.facts", "50")
    assert done.returncode == 1
    assert "holds another kind of results: translation (jobs/translate.py)" in done.stderr
