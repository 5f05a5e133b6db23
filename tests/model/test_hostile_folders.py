"""Folders that somebody made to harm: each test plants the attack, with a canary where code would run."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from test_encoder import save_bert

from hybridir.model.check import check_encoder
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.tokenizer import load_tokenizer
from hybridir.retrieval.systems import fingerprint

Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout")
    modules = [Transformer(str(save_bert(folder / "plain"))), Pooling(16), Dense(16, 12), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture
def model(layout: Path, tmp_path: Path) -> Path:
    return shutil.copytree(layout, tmp_path / "model")


def edit(file: Path, change: Change) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def refused(model: Path, message: str) -> None:
    """Found before any weight is read, and when the encoder is loaded."""
    config = EncoderConfig(name=str(model))
    for find_out in (check_encoder, Encoder.load):
        with pytest.raises(ValueError, match=message):
            find_out(config)


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


PARTS = {
    "pickle": ("weights.bin", "names 'weights.bin', but only safetensors files beside it are read"),
    "above": ("../outside/model.safetensors", "names '../outside/model.safetensors', but only safetensors files"),
    "absolute": ("/tmp/x.safetensors", "names '/tmp/x.safetensors', but only"),
    "missing": ("other.safetensors", "names other.safetensors, which is not there"),
    "number": (7, "names '7', but only"),
}


@pytest.mark.parametrize("case", PARTS)
@pytest.mark.parametrize("place", ["", "2_Dense"])
def test_an_index_names_only_safetensors_beside_it(case: str, place: str, model: Path, tmp_path: Path) -> None:
    part, message = PARTS[case]
    folder = model / place
    keys = load_file(folder / "model.safetensors")
    (tmp_path / "outside").mkdir()
    (folder / "model.safetensors").rename(tmp_path / "outside" / "model.safetensors")
    torch.save(Canary(tmp_path / "canary"), folder / "weights.bin")
    index = {"metadata": {}, "weight_map": dict.fromkeys(keys, part)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    refused(model, message)
    assert not (tmp_path / "canary").exists()


def test_a_sharded_backbone_is_read_and_a_sharded_dense_layer_is_refused(layout: Path, model: Path) -> None:
    expected = Encoder.load(str(layout)).encode(["a"], "query")
    for place in ("", "2_Dense"):
        weights = load_file(model / place / "model.safetensors")
        (model / place / "model.safetensors").unlink()
        parts = {key: f"model-0000{n % 2}.safetensors" for n, key in enumerate(sorted(weights))}
        for part in set(parts.values()):
            own = {key: weights[key] for key in weights if parts[key] == part}
            save_file(own, model / place / part, metadata={"format": "pt"})
        (model / place / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": parts}), encoding="utf-8"
        )
        if not place:
            assert (Encoder.load(str(model)).encode(["a"], "query") == expected).all()
    refused(model, "weights of the dense layer 2_Dense lie in 2 files, which is not supported: save them as one")


@pytest.mark.parametrize("path", ["../outside", "/outside", "1_Pooling/../../outside", "..\\outside"])
def test_modules_outside_of_the_folder(path: str, model: Path, tmp_path: Path) -> None:
    (model / "2_Dense").rename(tmp_path / "outside")
    edit(model / "modules.json", lambda modules: modules[2].update(path=path))
    refused(model, "modules.json names the folder .*, but only folders inside of the model are read")


@pytest.mark.parametrize(
    "file", ["model.safetensors", "tokenizer.json", "config.json", "2_Dense", "1_Pooling/config.json"]
)
def test_links_that_lead_out_of_the_folder(file: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    outside = tmp_path / "outside" / Path(file).name
    (model / file).rename(outside)
    (model / file).symlink_to(outside)
    refused(model, "leads out of the model's folder, to .*: put a copy of it into the folder")


def test_links_inside_and_the_cache_of_the_hub(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(model / "weights")
    (model / "model.safetensors").symlink_to("weights")
    Encoder.load(str(model))
    linked = tmp_path / "linked"
    linked.symlink_to(model)
    Encoder.load(str(linked))
    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots" / ("0" * 40)
    shutil.copytree(model, snapshot)
    for n, file in enumerate(sorted(file for file in snapshot.rglob("*") if file.is_file() and not file.is_symlink())):
        file.rename(cache / "blobs" / str(n))
        file.symlink_to(os.path.relpath(cache / "blobs" / str(n), file.parent))
    Encoder.load(str(snapshot))


def test_the_fingerprint_covers_every_file_that_is_read(model: Path) -> None:
    config = EncoderConfig(name=str(model))
    before = fingerprint(config)
    for file in sorted(model.rglob("*.*")):
        if file.suffix == ".md":
            continue
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert fingerprint(config) != before, file
        file.write_bytes(content)
    assert fingerprint(config) == before


SIZES: dict[str, tuple[str, Change, str]] = {
    "layers": (
        "config.json",
        lambda c: c.update(num_hidden_layers=10**9),
        "says num_hidden_layers 1000000000: more than",
    ),
    "layers that pass": (
        "config.json",
        lambda c: c.update(num_hidden_layers=90),
        "describes .* numbers, but its files",
    ),
    "labels": ("config.json", lambda c: c.update(num_labels=10**9), "says num_labels 1000000000: more than 100000"),
    "width": ("config.json", lambda c: c.update(hidden_size=200_000), "are broken: its config.json describes"),
    "tokens": ("config.json", lambda c: c.update(vocab_size=10**9), "are broken: its config.json describes"),
    "positions": ("config.json", lambda c: c.update(max_position_embeddings=10**10), "its config.json describes"),
    "pooler": (
        "config.json",
        lambda c: c.update(hidden_size=10**6, num_hidden_layers=0, intermediate_size=1),
        "its config.json describes",
    ),
    "text for a number": ("config.json", lambda c: c.update(hidden_size="x"), "no encoder"),
    "dense": ("2_Dense/config.json", lambda c: c.update(in_features=200_000, out_features=200_000), "are broken"),
}


@pytest.mark.parametrize("case", SIZES)
def test_sizes_are_compared_before_memory_is_taken(case: str, model: Path) -> None:
    file, change, message = SIZES[case]
    edit(model / file, change)
    start = time.process_time()
    refused(model, message)
    assert time.process_time() - start < 20


def _normal(content: Any) -> None:
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "x" * 900_000}]}


def _template(content: Any) -> None:
    token = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [token] * 5000 + [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
    }


LONG = {
    "prompt": (
        "config_sentence_transformers.json",
        lambda c: c.update(prompts={"query": "x" * 900_000}),
        "a prompt of 900,000 characters, which would be put before every text",
    ),
    "normalizer": ("tokenizer.json", _normal, "puts 900,000 characters in the place of a few"),
    "template": ("tokenizer.json", _template, "adds 5,000 tokens to every text"),
}


@pytest.mark.parametrize("case", LONG)
def test_what_would_make_every_text_long(case: str, model: Path) -> None:
    file, change, message = LONG[case]
    edit(model / file, change)
    refused(model, message)


def test_kernels_of_others(model: Path) -> None:
    for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        edit(model / "config.json", lambda c, key=key: c.update({key: "someone/kernel"}))
        refused(model, "asks for the attention code 'someone/kernel' from the hub, which is never run")
        edit(model / "config.json", lambda c, key=key: c.pop(key))


CODE = """
from pathlib import Path
Path({canary!r}).touch()
from transformers import BertConfig, BertModel
class Config(BertConfig):
    model_type = "canary"
class Model(BertModel):
    config_class = Config
"""


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_code_of_a_folder_never_runs_and_nobody_is_asked(
    where: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would ask on stdin, which may be open and silent, whether to run it."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    (model / "code.py").write_text(CODE.format(canary=str(tmp_path / "canary")), encoding="utf-8")
    if where == "config.json":
        auto = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
        edit(model / where, lambda c: c.update(auto_map=auto, model_type="of_its_own", architectures=["Model"]))
        refused(model, r"brings code of its own \(auto_map in config\.json\), which is never run")
    else:  # of a type for which transformers has no tokenizer
        edit(model / "config.json", lambda c: c.update(model_type="resnet"))
        auto = {"AutoTokenizer": ["code.Tokenizer", None]}
        edit(model / where, lambda c: c.update(auto_map=auto, tokenizer_class="Tokenizer"))
        with pytest.raises(ValueError, match="is code that the model brings along, which is never run: save it as"):
            load_tokenizer(str(model))
    assert not (tmp_path / "canary").exists()


def test_code_beside_a_type_that_is_known_is_left_alone(layout: Path, model: Path, tmp_path: Path) -> None:
    (model / "code.py").write_text(CODE.format(canary=str(tmp_path / "canary")), encoding="utf-8")
    edit(model / "config.json", lambda c: c.update(auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"}))
    assert (Encoder.load(str(model)).encode(["a"], "query") == Encoder.load(str(layout)).encode(["a"], "query")).all()
    assert not (tmp_path / "canary").exists()
