"""A teacher's embeddings: computed once, of the training texts alone, and part of what a run is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import read_lines, train_here

from hybridir.batches.sampling import Translations
from hybridir.batches.stream import from_table, to_table
from hybridir.batches.teacher import Teacher
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder, build_small_encoder
from hybridir.model.tokenizer import load_tokenizer
from hybridir.runs import teacher as runs_teacher
from hybridir.runs.prepare import Prepared
from hybridir.runs.teacher import teach
from hybridir.training.losses.distill import Distill


@pytest.fixture(scope="module")
def model(small_run: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another encoder than the one that is trained, of another width."""
    folder = tmp_path_factory.mktemp("teacher") / "model"
    config = EncoderConfig(layers=1, hidden_size=48, vocab_size=400)
    build_small_encoder(config, load_tokenizer(small_run.initial.name), seed=7).save(folder)
    return folder


def test_embeddings_are_the_teachers(small_run: Prepared, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, encoder = small_run.corpus, Encoder.load(str(model))
    own, english = (teach(Distill(teacher=str(model), language=x), corpus) for x in (None, "en"))
    monkeypatch.setattr(runs_teacher, "Encoder", None)  # the second time nothing is computed
    assert teach(Distill(teacher=str(model)), corpus) == own
    plan = small_run.job.source.plan()
    batch = plan.batch(0)
    for taught, rows in ((own, None), (english, corpus.row_of[batch.groups, corpus.languages.index("en")])):
        found = Teacher(str(taught.folder), plan, None if rows is None else "en").take(batch)
        texts = [corpus.pair(row)["query"] for row in (batch.query_row if rows is None else rows)]
        np.testing.assert_allclose(found[: len(texts)], encoder.encode(texts, "query"), atol=1e-5)
        texts = [corpus.pair(row)["passage"]["text"] for row in (batch.passage_row if rows is None else rows)]
        np.testing.assert_allclose(found[len(texts) :], encoder.encode(texts, "passage"), atol=1e-5)
    kept = np.load(own.folder / "query.npy")
    rows = corpus.row_of[corpus.groups("train")]
    assert (np.abs(kept).sum(axis=1) > 0).nonzero()[0].tolist() == sorted(rows[rows >= 0].tolist())


def test_a_batch_keeps_them_on_its_way(small_run: Prepared, model: Path) -> None:
    taught = teach(Distill(teacher=str(model)), small_run.corpus)
    batch = replace(small_run.job.source, teacher=str(taught.folder)).batch(1, rank=1, world_size=2)
    found = from_table(to_table([batch]))
    assert found.teacher is not None
    assert found.teacher.shape == (2 * len(batch.example), 48)
    assert np.array_equal(found.teacher, batch.teacher)


def test_a_run_learns_from_a_teacher(make_run: Callable[..., Prepared], model: Path, tmp_path: Path) -> None:
    distill = Distill(weight=1, teacher=str(model), match="scores", language="en")
    options = {"loss": {"distill": distill}, "train": {"steps": 2}, "sampling": {"translations": Translations(query=1)}}
    run = make_run(tmp_path / "run", **options)
    train_here(run)
    assert [set(line["terms"]) for line in read_lines(run.job.output / "history.jsonl")] == [
        {"info_nce", "distill"}
    ] * 2
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert make_run(tmp_path / "run", **options).job.identity["teacher"] != run.job.identity["teacher"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "sw"}, "loss.distill.language is 'sw', but the data has pairs only in de"),
        ({"teacher": "/no"}, "/no"),
    ],
)
def test_what_a_teacher_cannot_be(small_run: Prepared, model: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teach(replace(Distill(teacher=str(model)), **options), small_run.corpus)
