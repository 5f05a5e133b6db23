"""LoRA: the formula, merging, what checkpoints hold, resuming, and the saved model in sentence-transformers."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import read_lines, steady, train_here
from safetensors import safe_open

from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.lora import Adapted, LoraConfig, inject, merge
from hybridir.model.tokenizer import tokenize
from hybridir.runs.prepare import Prepared
from hybridir.training.loop import STOP

TEXTS = ["Welche Sprache spricht man dort?", "What is the currency of the following place?", "x"]


@pytest.fixture
def encoder(small_run: Prepared, float64: Path) -> Encoder:
    return Encoder.load(replace(small_run.initial, name=str(float64)))


def trained(encoder: Encoder, config: LoraConfig) -> Encoder:
    """A copy with matrices that are not 0."""
    made = copy.deepcopy(encoder)
    inject(made, config, seed=3)
    for one in made.modules():
        if isinstance(one, Adapted):
            torch.nn.init.normal_(one.up, generator=torch.Generator().manual_seed(4))
    return made


def embed(encoder: Encoder) -> torch.Tensor:
    ids = tokenize(encoder.tokenizer, TEXTS, "", 32)
    flat = [token for one in ids for token in one]
    return encoder(torch.tensor(flat), torch.tensor([len(one) for one in ids]))


def test_an_adapted_layer_by_its_formula() -> None:
    random = torch.Generator().manual_seed(1)
    base = torch.nn.Linear(5, 3).double()
    layer = Adapted(base, LoraConfig(rank=2, alpha=6.0), random)
    torch.nn.init.normal_(layer.up)
    x = torch.randn(4, 5, dtype=torch.float64)
    expected = x @ base.weight.T + base.bias + 3 * (x @ layer.down.T @ layer.up.T)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.merged()(x), expected, rtol=1e-12, atol=1e-12)


def test_merged_equals_injected(encoder: Encoder) -> None:
    fresh = copy.deepcopy(encoder)
    inject(fresh, LoraConfig(rank=4), seed=3)
    assert torch.equal(embed(fresh), embed(encoder))
    other = trained(encoder, LoraConfig(rank=4))
    injected = embed(other)
    assert (injected - embed(encoder)).abs().max() > 1e-3
    merge(other)
    torch.testing.assert_close(embed(other), injected, rtol=0, atol=1e-12)
    assert other.state_dict().keys() == encoder.state_dict().keys()
    changed = {name for name, one in other.state_dict().items() if not torch.equal(one, encoder.state_dict()[name])}
    assert {name.split(".")[-2] for name in changed} == {"query", "value"}
    assert all(one.requires_grad for one in other.parameters())


@pytest.mark.parametrize(
    ("options", "adapted"),
    [
        ({}, {"query", "value"}),
        ({"targets": ("query", "key", "dense")}, {"query", "key", "dense"}),
        ({"layers": 1}, {"query", "value"}),
    ],
)
def test_what_is_trained(encoder: Encoder, options: dict[str, object], adapted: set[str]) -> None:
    inject(encoder, LoraConfig(rank=2, **options), seed=3)
    names = [name for name, one in encoder.named_parameters() if one.requires_grad]
    assert {name.split(".")[-1] for name in names} == {"down", "up"}
    assert {name.split(".")[-2] for name in names} == adapted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": -1}, r"lora\.rank is -1: it must be at least 0"),
        ({"alpha": 0}, r"lora\.alpha is 0: it must be above 0"),
        ({"dropout": 1}, r"lora\.dropout is 1: it must be at least 0 and below 1"),
        ({"layers": 0}, r"lora\.layers is 0: it must be at least 1"),
    ],
)
def test_what_lora_cannot_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**options)


def test_an_encoder_without_such_layers(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"lora\.targets is wq, and the encoder .* has no such layer: name some of "):
        inject(encoder, LoraConfig(rank=2, targets=("wq",)), seed=0)


def test_a_new_encoder_is_refused(make_run: Callable[..., Prepared], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lora\.rank is 2, but encoder\.name is empty"):
        make_run(tmp_path / "run", lora={"rank": 2})


def test_a_run_goes_on_bit_for_bit(make_run: Callable[..., Prepared], small_run: Prepared, tmp_path: Path) -> None:
    """With dropout in LoRA. The checkpoint holds what is trained, and the saved model is an ordinary one."""
    from sentence_transformers import SentenceTransformer

    def run(name: str) -> Prepared:
        return make_run(
            tmp_path / name,
            encoder={"name": small_run.initial.name, "query_prefix": "Q: "},
            lora={"rank": 4, "dropout": 0.2},
            train={"steps": 4, "lr": 0.01},
            loss={"learn_temperature": True},
        )

    once, twice = run("once"), run("twice")
    _, wanted = train_here(once)
    (twice.job.output / STOP).touch()
    assert train_here(twice)[0]["step"] == 1
    (twice.job.output / STOP).unlink()
    _, found = train_here(twice)
    before = Encoder.load(small_run.initial).state_dict()
    assert all(torch.equal(found.state_dict()[name], one) for name, one in wanted.state_dict().items())
    assert {name.split(".")[-2] for name, one in before.items() if not torch.equal(one, found.state_dict()[name])} == {
        *("query", "value")
    }
    ours, theirs = (steady(read_lines(one.job.output / "history.jsonl")) for one in (twice, once))
    assert ours == theirs
    with safe_open(once.job.output / "checkpoints" / "step-00000004" / "model.safetensors", "pt") as file:
        assert {name.split(".")[-1] for name in file.keys()} == {"down", "up", "log_temperature"}  # noqa: SIM118
    told = [line["text"] for line in read_lines(once.job.output / "events.jsonl")]
    assert any(line.startswith("LoRA trains ") for line in told), told
    found.save(tmp_path / "model")
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    ours = found.encode(TEXTS, "query")
    torch.testing.assert_close(
        torch.from_numpy(ours), model.encode(TEXTS, "query", convert_to_tensor=True), rtol=0, atol=1e-5
    )


def test_another_base_is_another_run(make_run: Callable[..., Prepared], small_run: Prepared, tmp_path: Path) -> None:
    """The frozen weights are in no checkpoint."""
    base = tmp_path / "base"
    encoder = Encoder.load(EncoderConfig(name=small_run.initial.name))
    encoder.save(base)
    options = {"encoder": {"name": str(base)}, "lora": {"rank": 2}}
    identity = make_run(tmp_path / "run", **options).job.identity
    with torch.no_grad():
        next(encoder.parameters())[0] += 1
    encoder.save(base)
    changed = make_run(tmp_path / "run", **options).job.identity
    assert {name for name in identity if identity[name] != changed[name]} == {"base"}
