"""The encoder: batches, saving, and the same embeddings as sentence-transformers for every layout it reads."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaModel,
)

from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder, build_small_encoder
from hybridir.model.tokenizer import load_tokenizer, tokenize
from hybridir.model.tokenizer_training import train_tokenizer
from hybridir.retrieval.encode import encode_here
from hybridir.runs.prepare import Prepared

CLOSE = {"rtol": float(np.finfo(np.float32).eps), "atol": 1e-12}
"""The models here compute in float64: embeddings, which are float32, may differ in their last bit."""
TEXTS = [
    "What is the currency of France?",
    "Währung",
    "¿Qué idioma se habla en España? " * 3,
    "The week starts on Monday in Germany.",
    "",
    "lang " * 120,
]
"""Of all lengths, an empty one and one far above any limit here."""


def tokenizer_of(tokens: dict[str, str], order: list[str]) -> PreTrainedTokenizerFast:
    """A BPE tokenizer of few pieces whose special tokens have the ids of their place in `order`."""
    tokenizer = Tokenizer(models.BPE(unk_token=tokens["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=120, special_tokens=order, show_progress=False))
    begin, end = tokens["cls_token"], tokens["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(t, tokenizer.token_to_id(t)) for t in (begin, end)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **tokens)


SIZES = {"vocab_size": 120, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 32, "initializer_range": 0.5}


def save_bert(folder: Path, pooler: bool = True) -> Path:
    """A plain Hugging Face folder: a random BERT, with its pooler or without."""
    order = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokens = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), order, strict=True))
    torch.manual_seed(1)
    model = BertModel(BertConfig(**SIZES, max_position_embeddings=64, pad_token_id=0), add_pooling_layer=pooler)
    model.double().save_pretrained(folder)
    tokenizer_of(tokens, order).save_pretrained(folder)
    return folder


def save_xlmr(folder: Path) -> Path:
    """A plain folder of a random XLM-R: padding is token 1, and positions count from there."""
    order = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    torch.manual_seed(2)
    config = XLMRobertaConfig(**SIZES, max_position_embeddings=66, pad_token_id=1, bos_token_id=0, eos_token_id=2)
    XLMRobertaModel(config, add_pooling_layer=False).double().save_pretrained(folder)
    tokenizer_of(tokens, order).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert") / "plain")


@pytest.fixture(scope="module")
def xlmr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_xlmr(tmp_path_factory.mktemp("xlmr") / "plain")


def load(name: Path, **options: object) -> Encoder:
    options = {"name": str(name), "max_query_length": 64, "max_passage_length": 64} | options
    return Encoder.load(EncoderConfig(**options))  # type: ignore[arg-type]


def sentence_transformer(folder: Path) -> SentenceTransformer:
    """In float64, which it does not take a dense layer in."""
    return SentenceTransformer(str(folder), device="cpu").double()


def reference(model: Path | SentenceTransformer, texts: list[str], prompt: str | None = None) -> np.ndarray:
    """Embeddings by sentence-transformers, of length 1."""
    if not isinstance(model, SentenceTransformer):
        model = sentence_transformer(model)
    return model.encode(texts, prompt_name=prompt, normalize_embeddings=True, show_progress_bar=False)


# Batches


@pytest.fixture(scope="module", params=["bert", "xlmr"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return load(request.getfixturevalue(request.param))


def test_embeddings_do_not_depend_on_the_batch(encoder: Encoder) -> None:
    alone = np.concatenate([encoder.encode([text], "passage") for text in TEXTS])
    together = encoder.encode(TEXTS, "passage")
    assert together.dtype == np.float32
    assert together.shape == (6, 16)
    np.testing.assert_allclose(together, alone, **CLOSE)
    np.testing.assert_allclose(np.linalg.norm(together.astype(np.float64), axis=1), 1, **CLOSE)


def test_order_is_kept(encoder: Encoder) -> None:
    turned = encoder.encode(TEXTS[::-1], "passage")[::-1]
    np.testing.assert_allclose(turned, encoder.encode(TEXTS, "passage"), **CLOSE)
    distances = np.linalg.norm(turned[:, None] - turned[None], axis=-1) + np.eye(len(TEXTS))
    assert distances.min() > 0.01, "texts have embeddings of their own, so a wrong order would show"


def test_many_texts_come_back_in_their_order(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one forward pass, in chunks, and encoded, where equal texts are embedded once."""
    texts = TEXTS * 30
    tokens = tokenize(encoder.tokenizer, texts, "", 64)
    ids, lengths = torch.tensor([t for text in tokens for t in text]), torch.tensor([len(text) for text in tokens])
    by_text = np.tile(encoder.encode(TEXTS, "passage"), (30, 1))
    embedded: list[int] = []
    assert np.array_equal(encoder.encode(texts, "passage", embedded.append), by_text)
    assert sum(embedded) == len(TEXTS)
    with torch.no_grad():
        np.testing.assert_allclose(encoder.eval()(ids, lengths).numpy(), by_text, **CLOSE)
        monkeypatch.setattr("hybridir.model.encoder.can_pack", lambda *_: False)
        np.testing.assert_allclose(encoder(ids, lengths).numpy(), by_text, **CLOSE)


def test_blocks_of_texts(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoder.encode(TEXTS, "passage")
    monkeypatch.setattr("hybridir.model.encoder.BLOCK", 4)
    np.testing.assert_allclose(encoder.encode(TEXTS, "passage"), whole, **CLOSE)
    assert encoder.encode([], "query").shape == (0, 16)


def test_encoding_leaves_the_training_mode_alone(encoder: Encoder) -> None:
    for training in (True, False):
        encoder.train(training)
        encoder.encode(["a"], "query")
        assert encoder.training is training


def test_prefixes_and_lengths_of_both_sides(bert: Path) -> None:
    encoder = load(bert, query_prefix="query: ", passage_prefix="passage: ", max_query_length=12)
    plain = load(bert)
    wanted = plain.encode(["query: Währung", "passage: Währung"], "passage")
    np.testing.assert_allclose(encoder.encode(["Währung"], "query"), wanted[:1], **CLOSE)
    np.testing.assert_allclose(encoder.encode(["Währung"], "passage"), wanted[1:], **CLOSE)
    long = TEXTS[2]
    cut = tokenize(plain.tokenizer, [long], "query: ", 12)[0]
    assert len(cut) == 12
    with torch.no_grad():
        by_hand = encoder.eval()(torch.tensor(cut), torch.tensor([12])).numpy()
    np.testing.assert_allclose(encoder.encode([long], "query"), by_hand, **CLOSE)


def test_equal_texts_are_encoded_once_in_all_blocks(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a side; the blocks are those of the distinct texts."""
    monkeypatch.setattr("hybridir.retrieval.encode.BLOCK", 2)
    config, asked = load(bert).config, []
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, texts, *rest: asked.append(texts) or encode(self, texts, *rest))
    queries, passages = encode_here(config, ["a", "b", "a"], ["b", "c", "d", "c"])
    assert asked == [["a", "b"], ["b", "c"], ["d"]]
    wanted = load(bert).encode(["a", "b", "c", "d"], "query")
    np.testing.assert_allclose(queries, wanted[[0, 1, 0]], **CLOSE)
    np.testing.assert_allclose(passages, wanted[[1, 2, 3, 2]], **CLOSE)


# Saving


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_saved_model_is_the_same_here_and_in_sentence_transformers(bert: Path, tmp_path: Path, pooling: str) -> None:
    """Long texts are cut at the same place, when a query may be as long as a passage."""
    limits = {"max_query_length": 40, "max_passage_length": 40}
    encoder = load(bert, pooling=pooling, query_prefix="query: ", passage_prefix="passage: ", **limits)
    encoder.save(tmp_path / "model")
    again = load(tmp_path / "model", **limits)
    other = sentence_transformer(tmp_path / "model")
    assert len(tokenize(encoder.tokenizer, TEXTS, "query: ", 1000)[-1]) > 40
    for side in ("query", "passage"):
        embeddings = encoder.encode(TEXTS, side)
        assert np.array_equal(again.encode(TEXTS, side), embeddings)
        np.testing.assert_allclose(reference(other, TEXTS, side), embeddings, **CLOSE)
        by_side = other.encode_query if side == "query" else other.encode_document
        np.testing.assert_allclose(by_side(TEXTS), embeddings, **CLOSE)
    assert not np.allclose(encoder.encode(TEXTS, "query"), encoder.encode(TEXTS, "passage"), atol=1e-3)
    assert not list((tmp_path / "model").rglob("*.bin"))
    assert other.similarity_fn_name == "cosine"


def test_sentence_transformers_knows_one_limit(bert: Path, tmp_path: Path) -> None:
    """It cuts queries at the passages' limit; with `max_seq_length` set by hand long queries are the same too."""
    encoder = load(bert, max_query_length=12, max_passage_length=40)
    encoder.save(tmp_path / "model")
    other = sentence_transformer(tmp_path / "model")
    assert other.max_seq_length == 40
    np.testing.assert_allclose(reference(other, TEXTS, "passage"), encoder.encode(TEXTS, "passage"), **CLOSE)
    ours, theirs = encoder.encode(TEXTS, "query"), reference(other, TEXTS, "query")
    short = [len(ids) <= 12 for ids in tokenize(encoder.tokenizer, TEXTS, "", 1000)]
    np.testing.assert_allclose(theirs[short], ours[short], **CLOSE)
    assert not np.allclose(theirs[-1], ours[-1], atol=1e-3)
    other.max_seq_length = 12
    np.testing.assert_allclose(reference(other, TEXTS, "query"), ours, **CLOSE)


def test_small_encoder_in_sentence_transformers(small_run: Prepared) -> None:
    folder = Path(small_run.initial.name)
    encoder = Encoder.load(small_run.initial).double()
    for side, texts in (("query", TEXTS[:2]), ("passage", TEXTS)):
        np.testing.assert_allclose(reference(folder, texts, side), encoder.encode(texts, side), **CLOSE)


# Loading


def test_plain_folder_pools_by_mean(bert: Path, xlmr: Path) -> None:
    for folder in (bert, xlmr):
        np.testing.assert_allclose(load(folder).encode(TEXTS, "passage"), reference(folder, TEXTS), **CLOSE)


def test_pooler_is_the_models_own_head(bert: Path) -> None:
    tokens = load_tokenizer(str(bert))(TEXTS[:1], return_tensors="pt")
    with torch.no_grad():
        pooled = BertModel.from_pretrained(bert).eval()(**tokens).pooler_output
    expected = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    np.testing.assert_allclose(load(bert, pooling="pooler").encode(TEXTS[:1], "query"), expected, **CLOSE)


def save_by_sentence_transformers(backbone: Path, folder: Path, pooling: str, dense: bool) -> Path:
    transformer = Transformer(str(backbone))
    modules = [transformer, Pooling(16, pooling_mode=pooling)]
    torch.manual_seed(3)
    modules += [Dense(16, 24, bias=pooling == "cls", activation_function=torch.nn.Tanh())] if dense else []
    model = SentenceTransformer(modules=[*modules, Normalize()], prompts={"query": "query: ", "passage": "passage: "})
    model.save_pretrained(str(folder))
    return folder


def make_legacy(folder: Path) -> None:
    """Rewrites what sentence-transformers 5 and before wrote otherwise: module names, and pooling by flags."""
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    for module in modules:
        module["type"] = "sentence_transformers.models." + module["type"].rpartition(".")[2]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    file = folder / "1_Pooling" / "config.json"
    mode = json.loads(file.read_text(encoding="utf-8"))["pooling_mode"]
    flags = {f"pooling_mode_{m}": m == f"{mode}{'_tokens' if mode == 'mean' else '_token'}" for m in LEGACY_MODES}
    assert sum(flags.values()) == 1
    file.write_text(json.dumps({"word_embedding_dimension": 16, "include_prompt": True, **flags}), encoding="utf-8")


LEGACY_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


@pytest.mark.parametrize("layout", ["new", "legacy"])
@pytest.mark.parametrize(("pooling", "dense"), [("mean", False), ("cls", False), ("cls", True), ("mean", True)])
def test_folders_of_sentence_transformers(
    bert: Path, xlmr: Path, tmp_path: Path, layout: str, pooling: str, dense: bool
) -> None:
    backbone = xlmr if pooling == "mean" else bert
    folder = save_by_sentence_transformers(backbone, tmp_path / "model", pooling, dense)
    if layout == "legacy":
        make_legacy(folder)
    encoder = load(folder)
    assert (encoder.config.query_prefix, encoder.config.passage_prefix) == ("query: ", "passage: ")
    for side in ("query", "passage"):
        expected = reference(folder, TEXTS[:5], side)
        assert expected.shape == (5, 24 if dense else 16)
        np.testing.assert_allclose(encoder.encode(TEXTS[:5], side), expected, **CLOSE)
    encoder.save(tmp_path / "again")
    expected = reference(folder, TEXTS[:5], "query")
    np.testing.assert_allclose(reference(tmp_path / "again", TEXTS[:5], "query"), expected, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_are_float32_at_least(bert: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    """With the dense layer, in a folder of ours and in one of sentence-transformers."""
    folder = save_by_sentence_transformers(bert, tmp_path / "model", "cls", dense=True)
    load(folder).to(dtype).save(tmp_path / "ours")
    SentenceTransformer(str(folder), device="cpu").to(dtype).save_pretrained(str(tmp_path / "theirs"))
    expected = torch.promote_types(dtype, torch.float32)
    saved = [weight.to(dtype).to(expected) for weight in load(folder).state_dict().values()]
    for name in ("ours", "theirs"):
        encoder = load(tmp_path / name)
        for weight, wanted in zip(encoder.state_dict().values(), saved, strict=True):
            assert weight.dtype == expected
            assert torch.equal(weight, wanted)
        assert encoder(torch.arange(4, 20), torch.tensor([16])).dtype == expected


def test_prefixes_of_the_recipe_come_before_the_models_own(bert: Path, tmp_path: Path) -> None:
    folder = save_by_sentence_transformers(bert, tmp_path / "model", "mean", dense=False)
    assert load(folder, query_prefix="").config.query_prefix == ""
    assert load(folder, query_prefix="q: ").config.query_prefix == "q: "


def test_dropout_of_the_recipe(bert: Path) -> None:
    assert load(bert).backbone.config.hidden_dropout_prob == 0.1  # type: ignore[union-attr]
    encoder = load(bert, dropout=0.0).train()
    ids, lengths = torch.arange(4, 20), torch.tensor([16])
    assert torch.equal(encoder(ids, lengths), encoder(ids, lengths))
    encoder = load(bert, dropout=0.5).train()
    assert not torch.equal(encoder(ids, lengths), encoder(ids, lengths))


def test_a_causal_model_pooled_at_its_last_token(tmp_path: Path) -> None:
    """Qwen3, which computes its norms in float32."""
    order = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokens = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), order, strict=True))
    torch.manual_seed(1)
    config = Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=8, max_position_embeddings=64, pad_token_id=0)
    Qwen3Model(config).double().save_pretrained(tmp_path / "plain")
    tokenizer_of(tokens, order).save_pretrained(tmp_path / "plain")
    folder = save_by_sentence_transformers(tmp_path / "plain", tmp_path / "model", "lasttoken", dense=False)
    encoder = load(folder)
    bound = 1e-4  # three roundings to float32 a layer
    np.testing.assert_allclose(encoder.encode(TEXTS, "query"), reference(folder, TEXTS, "query"), atol=bound)
    encoder.save(tmp_path / "again")
    assert load(tmp_path / "again").head.pooling == "lasttoken"
    assert "hybridir_packed" not in (tmp_path / "again" / "config.json").read_text(encoding="utf-8")


# Errors


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing"):
        load(tmp_path / "missing")


def test_missing_tokenizer(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match="no tokenizer at"):
        load(folder)


def test_folder_without_a_model(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"no encoder at .*config\.json"):
        load(folder)


def test_pooler_without_weights(xlmr: Path, tmp_path: Path) -> None:
    for folder in (xlmr, save_bert(tmp_path / "model", pooler=False)):
        with pytest.raises(ValueError, match=r"no pooler weights: set encoder\.pooling to mean or cls"):
            load(folder, pooling="pooler")


def change_weights(file: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def without(*ends: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {key: value for key, value in weights.items() if not key.endswith(ends)}


BIAS = "encoder.layer.1.output.LayerNorm.bias"
MISSING: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    "one": (without(BIAS), f"lack 1 tensors of the model in its config.json, the first {BIAS}: fetch"),
    "all": (
        lambda weights: {f"foo.{key}": value for key, value in weights.items()},
        r"lack 37 .*, the first embeddings\.Layer",
    ),
    "shape": (lambda weights: {key: value[:1].clone() for key, value in weights.items()}, "weights of .* are broken"),
}


@pytest.mark.parametrize("case", MISSING)
def test_missing_weights_are_not_made_up(bert: Path, tmp_path: Path, case: str) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    change, message = MISSING[case]
    change_weights(folder / "model.safetensors", change)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_weights_that_are_not_needed_may_lack_or_be_more(xlmr: Path, tmp_path: Path) -> None:
    """As in xlm-roberta-base: the head of the language model, with tied weights, and no pooler."""
    folder = shutil.copytree(xlmr, tmp_path / "model")
    model = XLMRobertaForMaskedLM(XLMRobertaConfig.from_pretrained(xlmr))
    model.roberta.load_state_dict(XLMRobertaModel.from_pretrained(xlmr, add_pooling_layer=False).state_dict())
    model.double().save_pretrained(folder)
    assert any(key.startswith("lm_head") for key in load_file(folder / "model.safetensors"))
    np.testing.assert_allclose(load(folder).encode(TEXTS, "query"), load(xlmr).encode(TEXTS, "query"), **CLOSE)


@pytest.mark.parametrize("place", ["", "2_Dense"])
def test_truncated_weights(bert: Path, tmp_path: Path, place: str) -> None:
    folder = save_by_sentence_transformers(bert, tmp_path / "model", "cls", dense=True)
    file = folder / place / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"the weights (of|at) .* are broken: fetch or save the model again"):
        load(folder)


BOUNDS: list[tuple[str, float, str]] = [
    ("max_query_length", 0, "at least 3"),
    ("max_query_length", 2, "at least 3"),
    ("max_passage_length", -3, "at least 3"),
    ("max_passage_length", 0, "at least 3"),
    ("vocab_size", 259, "at least 260"),
    ("layers", 0, "at least 1"),
    ("hidden_size", 0, "above 0"),
    ("hidden_size", 200, "divisible by its 3 attention heads"),
    ("dropout", 1.5, "below 1"),
    ("dropout", 1.0, "below 1"),
    ("dropout", -0.1, "at least 0"),
    ("dropout", float("nan"), "at least 0"),
]


@pytest.mark.parametrize(("name", "value", "message"), BOUNDS)
def test_bounds(name: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^encoder\.{name} is {value}: it must be .*{message}"):
        EncoderConfig(**{name: value})  # type: ignore[arg-type]


def test_lowest_and_highest_that_work(bert: Path) -> None:
    EncoderConfig(vocab_size=260, layers=1, hidden_size=192, dropout=0.0)
    EncoderConfig(hidden_size=1, dropout=0.99)
    assert load(bert, max_query_length=3, max_passage_length=3).encode(TEXTS, "query").shape == (6, 16)


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


UNSUPPORTED: dict[str, tuple[str, Callable[[dict], object], str]] = {
    "unknown": (
        "1_Pooling/config.json",
        lambda c: c.update(pooling_mode="median"),
        r"pools by median, .* set encoder\.pooling to mean or cls",
    ),
    "two": ("1_Pooling/config.json", lambda c: c.update(pooling_mode=["mean", "cls"]), "pools by"),
    "flags": (
        "1_Pooling/config.json",
        lambda c: [c.clear(), c.update(pooling_mode_max_tokens=True, pooling_mode_cls_token=True)],
        "pools by cls, max, which",
    ),
    "prompt": (
        "1_Pooling/config.json",
        lambda c: c.update(include_prompt=False),
        "sets include_prompt to False, which is not supported",
    ),
    "module": ("modules.json", lambda c: c[2].update(type="sentence_transformers.models.LSTM"), "LSTM"),
    "activation": (
        "2_Dense/config.json",
        lambda c: c.update(activation_function="torch.nn.ReLU"),
        "activation torch.nn.ReLU is not one of Tanh, Identity",
    ),
    "residual": ("2_Dense/config.json", lambda c: c.update(use_residual=True), "use_residual to True"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_unsupported_modules(bert: Path, tmp_path: Path, case: str) -> None:
    folder = save_by_sentence_transformers(bert, tmp_path / "model", "cls", dense=True)
    load(folder)
    file, change, message = UNSUPPORTED[case]
    edit(folder / file, change)
    with pytest.raises(ValueError, match=message):
        load(folder)


# A new encoder


def test_same_seed_same_weights(small_run: Prepared) -> None:
    tokenizer = load_tokenizer(small_run.initial.name)
    config = replace(small_run.initial, name="")
    torch.manual_seed(5)
    first = build_small_encoder(config, tokenizer, seed=7).state_dict()
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after), "the global generator is left alone"
    again = build_small_encoder(config, tokenizer, seed=7).state_dict()
    other = build_small_encoder(config, tokenizer, seed=8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["backbone.embeddings.word_embeddings.weight"], other["backbone.embeddings.word_embeddings.weight"]
    )


def test_tokenizer_is_the_same_when_trained_again(small_run: Prepared) -> None:
    folder = train_tokenizer(small_run.corpus, 400)
    first = (folder / "tokenizer.json").read_bytes()
    assert len(load_tokenizer(str(folder))) == 400
    shutil.rmtree(folder)
    assert train_tokenizer(small_run.corpus, 400) == folder
    assert (folder / "tokenizer.json").read_bytes() == first


def test_tokenizer_reads_every_script(small_run: Prepared) -> None:
    """Byte-level: characters that the corpus lacks are no unknown tokens, and come back."""
    tokenizer = load_tokenizer(small_run.initial.name)
    ids = tokenizer("ภาษาไทย и 中文")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_saved_files_have_the_mode_of_the_umask(bert: Path, tmp_path: Path) -> None:
    """So that colleagues can read a model; safetensors makes files for the owner only."""
    folder = save_by_sentence_transformers(bert, tmp_path / "model", "cls", dense=True)
    old = os.umask(0o027)
    try:
        load(folder).save(tmp_path / "again")
    finally:
        os.umask(old)
    files = [file for file in (tmp_path / "again").rglob("*") if file.is_file()]
    assert len([file for file in files if file.suffix == ".safetensors"]) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {0o640}


def test_a_single_text_gives_one_row_and_sides_are_checked(bert: Path) -> None:
    encoder = load(bert)
    assert np.array_equal(encoder.encode("hello", "query"), encoder.encode(["hello"], "query"))
    with pytest.raises(ValueError, match="side is 'document': it must be query or passage"):
        encoder.encode(["hello"], "document")  # type: ignore[arg-type]


def test_load_by_name_alone(bert: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A run's folder, its model, or any other folder, as in an evaluation; and nothing on the screen."""
    run = tmp_path / "run"
    load(bert, max_query_length=12, query_prefix="q: ").save(run / "model")
    (run / "config.yaml").write_text("{}", encoding="utf-8")
    capfd.readouterr()
    for name in (run, run / "model"):
        encoder = Encoder.load(str(name))
        assert (encoder.config.max_query_length, encoder.config.query_prefix) == (12, "q: ")
    assert Encoder.load(str(save_xlmr(tmp_path / "plain"))).config.max_query_length == 64
    without_pooler = save_bert(tmp_path / "bert", pooler=False)
    capfd.readouterr()
    Encoder.load(str(without_pooler))
    assert capfd.readouterr() == ("", "")
