"""Texts in a row have the embeddings and gradients of padded ones, for every type of model that runs so."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModel

from hybridir.model import packing
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder, _pool
from hybridir.model.groups import BUDGET, cut_by_budget, lay_out
from hybridir.model.head import Head
from hybridir.model.packing import PACKED, TYPES, can_pack

CPU = torch.device("cpu")
SIZES = {"vocab_size": 50, "num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 32, "pad_token_id": 1}
SIZES |= {"intermediate_size": 40, "max_position_embeddings": 64, "initializer_range": 0.3}
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 40},
    "modernbert": {"local_attention": 6, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    "mistral": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 5},
    "qwen2": {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
}
"""With windows that are shorter than texts, where a type has them."""
LENGTHS = [9, 1, 30, 7, 8, 30, 2, 10, 29, 8, 3, 1]
"""Of groups that are even and uneven, one with a single text."""
CAUSAL = {"llama", "mistral", "qwen2", "qwen3"}


class Tokenizer:
    pad_token_id = 1


def build(kind: str, pooling: str = "mean", **settings: Any) -> Encoder:
    torch.manual_seed(3)
    sizes = {**SIZES, "bos_token_id": 2, "eos_token_id": 3, **OWN.get(kind, {})}
    settings = {"attention_dropout": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0} | settings
    if kind == "distilbert":
        settings = {"dropout": 0.0} | settings
    backbone = AutoModel.from_config(CONFIG_MAPPING[kind](**sizes, **settings)).double()
    return Encoder(backbone, Head(pooling), Tokenizer(), EncoderConfig())


def batch(lengths: list[int] = LENGTHS) -> tuple[Tensor, Tensor]:
    """Token ids without padding ids, and lengths."""
    generator = torch.Generator().manual_seed(4)
    return torch.randint(2, 50, (sum(lengths),), generator=generator), torch.tensor(lengths)


def padded(encoder: Encoder, ids: Tensor, lengths: Tensor) -> Tensor:
    """Embeddings by transformers alone, of all texts padded to the longest."""
    texts = ids.split(lengths.tolist())
    rows = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=1)
    mask = torch.arange(rows.shape[1]) < lengths[:, None]
    backbone: Any = encoder.backbone
    own = backbone.config._attn_implementation
    backbone.set_attn_implementation("sdpa" if own == PACKED else own)
    try:
        hidden = backbone(input_ids=rows, attention_mask=mask.long()).last_hidden_state
    finally:
        backbone.set_attn_implementation(own)
    return encoder.head.finish(_pool(hidden, mask, lengths, encoder.head.pooling))


def both(encoder: Encoder, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings by this project, and by transformers alone."""
    return encoder(ids, lengths), padded(encoder, ids, lengths)


def gradients(encoder: Encoder, embeddings: Tensor) -> dict[str, Tensor]:
    """Of a function of all embeddings that is not the same for any two."""
    encoder.zero_grad()
    weight = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (embeddings * weight).sum().backward()
    return {name: one.grad for name, one in encoder.named_parameters() if one.grad is not None}


def assert_close(found: Tensor, wanted: Tensor, name: str = "") -> None:
    """To 1e-10 of the largest number."""
    assert wanted.abs().max() > 0 or "position" in name or "bias" in name, name
    assert (found - wanted).abs().max() <= 1e-10 * max(1e-3, wanted.abs().max()), name


@pytest.fixture(autouse=True)
def float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where models turn to float32 on the way (rotations, norms), float64 stays: else its rounding is all one sees."""
    for name in ("float", "float32"):
        monkeypatch.setattr(torch, name, torch.float64)
    monkeypatch.setattr(Tensor, "float", Tensor.double)


@pytest.mark.parametrize("kind", TYPES)
def test_embeddings_and_gradients_are_those_of_padded_texts(kind: str) -> None:
    encoder = build(kind, "lasttoken" if kind in CAUSAL else "mean").train()
    assert can_pack(encoder.backbone, CPU)
    ids, lengths = batch()
    ours, theirs = both(encoder, ids, lengths)
    assert_close(ours, theirs)
    found, wanted = gradients(encoder, ours), gradients(encoder, theirs)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert_close(found[name], wanted[name], name)


def test_padding_ids_within_a_text_have_no_position_of_their_own() -> None:
    """XLM-R numbers tokens by what is no padding; a text can hold the padding token literally."""
    encoder = build("xlm-roberta")
    ids = torch.tensor([2, 7, 1, 8, 9, 2, 5, 6])
    found = encoder(ids, torch.tensor([5, 3]))
    row = torch.tensor([[2, 7, 1, 8, 9]])
    backbone: Any = encoder.backbone
    backbone.set_attn_implementation("sdpa")
    wanted = backbone(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state.mean(1)
    assert_close(found[:1], torch.nn.functional.normalize(wanted))


def test_position_that_is_skipped_differs() -> None:
    """So that the test above would see it."""
    encoder = build("xlm-roberta")
    ids = torch.tensor([2, 7, 1, 8, 9])
    layout = lay_out(torch.tensor([5]), CPU, True)
    assert layout.positions.tolist() == [0, 1, 2, 3, 4]
    plain: Any = encoder.backbone
    shifted = plain(input_ids=ids[None], position_ids=layout.positions[None] + 2, layout=layout).last_hidden_state
    assert not torch.allclose(encoder(ids, torch.tensor([5])), shifted.mean(1), atol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "weightedmean", "lasttoken", "mean_sqrt_len_tokens"])
def test_poolings(pooling: str) -> None:
    encoder = build("bert", pooling)
    ids, lengths = batch()
    assert_close(*both(encoder, ids, lengths))


@pytest.mark.parametrize("kind", ["mpnet", "bert"])
def test_other_models_run_in_padded_chunks_and_say_so_once(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPNet looks at distances between tokens; a BERT whose folder asks for the eager attention keeps it."""
    packing._no.cache_clear()
    monkeypatch.setitem(BUDGET, "cpu", 64)
    encoder = build(kind, **({"attn_implementation": "eager"} if kind == "bert" else {})).train()
    ids, lengths = batch()
    ours, theirs = both(encoder, ids, lengths)
    assert_close(ours, theirs)
    found, wanted = gradients(encoder, ours), gradients(encoder, theirs)
    for name in wanted:
        assert_close(found[name], wanted[name], name)
    assert capsys.readouterr().out.count("texts are padded, in chunks of similar lengths: ") == 1
    encoder(ids, lengths)
    assert capsys.readouterr().out == ""


def test_groups() -> None:
    """A text joins while the longest is at most 1.25 times as long: 10 and 8 go together, 10 and 7 do not."""
    layout = lay_out(torch.tensor([8, 10, 7, 10, 1, 2]), CPU, packed=True)
    assert [group.sizes.tolist() for group in layout.groups] == [[10, 10, 8], [7], [2], [1]]
    assert [group.cells is None for group in layout.groups] == [False, True, True, True]
    assert layout.starts.tolist() == [0, 10, 20, 28, 35, 37, 38]
    assert layout.starts.dtype == torch.int32
    assert layout.back.tolist() == [2, 0, 3, 1, 5, 4]
    assert layout.tokens[:12].tolist() == [*range(8, 18), 25, 26]
    first = layout.groups[0]
    rows = torch.arange(1, 29)
    assert first.pad(rows)[2].tolist() == [*range(21, 29), 1, 1]
    assert torch.equal(first.unpad(first.pad(rows)), rows)


def test_chunks_stay_within_the_budget_but_for_longer_texts() -> None:
    sizes = np.array([2000, 1500, 512, 300, 3, 2])
    assert cut_by_budget(sizes, CPU) == [(0, 1), (1, 2), (2, 4), (4, 6)]


def test_windows_and_causality() -> None:
    """Three texts: of 4 tokens and 4, even; with one of 5, not."""
    even = lay_out(torch.tensor([4, 4]), CPU, True).groups[0]
    assert even.mask(False, None) is even.mask(True, None) is even.mask(False, 4) is None
    uneven = lay_out(torch.tensor([5, 4]), CPU, True).groups[0]
    assert uneven.mask(True, None) is None
    mask = uneven.mask(False, None)
    assert mask is not None
    assert mask[:, 0, 0].tolist() == [[True] * 5, [True] * 4 + [False]]
    near, before = uneven.mask(False, 2), uneven.mask(True, 2)
    assert near is not None
    assert before is not None
    assert near[1, 0].int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 1, 1],
    ]
    assert before[0, 0].int().tolist() == [[int(0 <= i - j < 2) for j in range(5)] for i in range(5)]


def test_dropout_in_attention_is_that_of_the_padded_pass() -> None:
    """A token that sees itself alone loses it or not in each of 4 heads: 16 embeddings, as with padding."""
    encoder = build("bert", attention_probs_dropout_prob=0.5)
    backbone: Any = encoder.backbone
    del backbone.encoder.layer[1:]
    ids, lengths = torch.full((1000,), 7), torch.ones(1000, dtype=torch.long)
    torch.manual_seed(0)
    ours, theirs = (torch.unique(run.round(decimals=9), dim=0) for run in both(encoder.train(), ids, lengths))
    assert len(ours) == len(theirs) == 16
    assert_close(ours, theirs)
    assert len(torch.unique(encoder.eval()(ids, lengths), dim=0)) == 1


@pytest.mark.parametrize("kind", ["bert", "qwen3"])
def test_gradient_checkpointing_changes_nothing(kind: str) -> None:
    encoder = build(kind).train()
    ids, lengths = batch()
    wanted = gradients(encoder, encoder(ids, lengths))
    backbone: Any = encoder.backbone
    enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    found = gradients(encoder, encoder(ids, lengths))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
