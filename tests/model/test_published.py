"""Models of the hub, from a cache without network: commits, and what is known of families by their names."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from test_encoder import CLOSE, save_bert

from hybridir.model.check import as_published, check_encoder, notes_on, resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.retrieval.systems import fingerprint

COMMITS = ("a" * 40, "b" * 40)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's, into which `publish` puts models."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def publish(hub: Path, name: str, commit: str, model: Path) -> None:
    home = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(model, home / "snapshots" / commit)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(commit, encoding="utf-8")


def test_the_commit_of_a_moving_name_is_taken_once_and_said(hub: Path, tmp_path: Path) -> None:
    name = "somebody/model"
    publish(hub, name, COMMITS[0], save_bert(tmp_path / "bert"))
    config = EncoderConfig(name=name)
    check_encoder(config, fetch=True)
    taken = resolve(config)
    assert taken.revision == as_published(config).revision == fingerprint(config) == COMMITS[0]
    assert notes_on(config) == [
        f"{name}: the hub has commit {COMMITS[0]} now. To use it again, set encoder.revision to it"
    ]
    assert notes_on(taken) == []
    expected = Encoder.load(str(tmp_path / "bert")).encode("hello", "query")
    np.testing.assert_allclose(Encoder.load(name).encode("hello", "query"), expected, **CLOSE)

    publish(hub, name, COMMITS[1], save_bert(tmp_path / "later", pooler=False))
    assert resolve(config).revision == COMMITS[1]
    assert resolve(taken).revision == Encoder.load(taken).config.revision == COMMITS[0]


FAMILIES = {
    "intfloat/multilingual-e5-base": ("query: ", "passage: ", "mean"),
    "intfloat/multilingual-e5-large-instruct": (
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
        "",
        "mean",
    ),
    "BAAI/bge-m3": ("", "", "cls"),
    "sentence-transformers/LaBSE": ("", "", "pooler"),
    "Alibaba-NLP/gte-multilingual-base": ("", "", "cls"),
    "Qwen/Qwen3-Embedding-0.6B": (
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:",
        "",
        "lasttoken",
    ),
    "intfloat/other": ("", "", None),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_known_by_name(name: str, hub: Path, tmp_path: Path) -> None:
    """For a model whose files say nothing, from the hub and in a folder of that name."""
    plain = save_bert(tmp_path / name)
    publish(hub, name, COMMITS[0], plain)
    for one in (name, str(plain)):
        config = resolve(EncoderConfig(name=one))
        assert (config.query_prefix, config.passage_prefix, config.pooling) == FAMILIES[name]
    query, _, pooling = FAMILIES[name]
    encoder = Encoder.load(name)
    same = EncoderConfig(name=str(plain), revision=None, query_prefix="", pooling=pooling, max_query_length=64)  # type: ignore[arg-type]
    np.testing.assert_allclose(encoder.encode("a", "query"), Encoder.load(same).encode(query + "a", "query"), **CLOSE)

    encoder.save(tmp_path / "trained" / name)  # now its files say it
    assert resolve(EncoderConfig(name=str(tmp_path / "trained" / name))).query_prefix == query


def test_files_come_before_names(tmp_path: Path) -> None:
    folder = tmp_path / "multilingual-e5-base"
    own = EncoderConfig(name=str(save_bert(tmp_path / "plain")), query_prefix="", passage_prefix="", pooling="cls")
    Encoder.load(own).save(folder)
    config = resolve(EncoderConfig(name=str(folder)))
    assert (config.query_prefix, config.passage_prefix, config.pooling) == ("", "", None)


def test_settings_that_are_not_the_models_own_are_said(tmp_path: Path) -> None:
    name = str(save_bert(tmp_path / "multilingual-e5-base"))
    assert notes_on(EncoderConfig(name=name), temperature=0.01) == []
    notes = notes_on(EncoderConfig(name=name, query_prefix="Query: ", passage_prefix="passage: "), temperature=0.05)
    assert notes[0] == "encoder.query_prefix is 'Query: ', but the model's own prompt is 'query: '"
    assert notes[1].startswith("loss.temperature is 0.05, but E5 was trained with 0.01: ")
    assert len(notes) == 2
    assert notes_on(EncoderConfig()) == []
