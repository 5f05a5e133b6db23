"""Folders as the hub has them, made small by transformers and sentence-transformers, encode here as they do there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from helpers import pairs_of
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import BertWordPieceTokenizer
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertModel,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizerFast,
)

from hybridir.data.config import Source
from hybridir.data.records import Pair
from hybridir.model.check import as_published, resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.tokenizer import load_tokenizer
from hybridir.retrieval.encode import encode_here

CLOSE = {"rtol": float(np.finfo(np.float32).eps), "atol": 1e-12}
"""The models here compute in float64: embeddings, which are float32, may differ in their last bit."""
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SIZES |= {"initializer_range": 0.5}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Questions and answers in five scripts."""
    read = pairs_of(Source(facts=40, languages=("ar", "de", "en", "ru", "th", "zh")))
    return [text for pair in read if isinstance(pair, Pair) for text in (pair.query, pair.passage.text)]


@pytest.fixture(scope="module")
def texts(lines: list[str]) -> list[str]:
    """In every language, of mixed lengths: with spaces around, none at all, and far above every limit here."""
    return [*lines[:14], "", "  two  spaces\n", "1", " ".join(lines)]


@pytest.fixture(scope="module")
def xlmr(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> Path:
    """The files of FacebookAI/xlm-roberta-base: 514 positions, a SentencePiece model and what is made from it."""
    folder = tmp_path_factory.mktemp("xlmr") / "plain"
    folder.mkdir()
    model = folder / "sentencepiece.bpe.model"
    with model.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, vocab_size=700, model_type="unigram", minloglevel=2
        )
    XLMRobertaTokenizerFast.from_pretrained(folder).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 512}', encoding="utf-8")
    torch.manual_seed(1)
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
    config = XLMRobertaConfig(**SIZES, **ids, vocab_size=702, max_position_embeddings=514)
    XLMRobertaModel(config, add_pooling_layer=False).double().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> Path:
    """A cased BERT with its pooler and WordPiece, as LaBSE has."""
    folder = tmp_path_factory.mktemp("bert") / "plain"
    tokenizer = BertWordPieceTokenizer(lowercase=False)
    tokenizer.train_from_iterator(lines, vocab_size=700, show_progress=False)
    BertTokenizerFast(tokenizer_object=tokenizer._tokenizer, do_lower_case=False, model_max_length=512).save_pretrained(
        folder
    )
    torch.manual_seed(2)
    BertModel(BertConfig(**SIZES, vocab_size=tokenizer.get_vocab_size())).double().save_pretrained(folder)
    return folder


def save(folder: Path, backbone: Path, pooling: str, length: int, head: int = 0, **prompts: str) -> Path:
    transformer = Transformer(str(backbone))
    transformer.max_seq_length = length
    torch.manual_seed(3)
    dense = [Dense(16, head, activation_function=torch.nn.Tanh())] if head else []
    modules = [transformer, Pooling(16, pooling_mode=pooling), *dense, Normalize()]
    SentenceTransformer(modules=modules, prompts=prompts).save_pretrained(str(folder))
    return folder


def sentence_transformer(folder: Path) -> SentenceTransformer:
    """In float64, which it does not take a dense layer in."""
    return SentenceTransformer(str(folder), device="cpu").double()


def edit(file: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def as_on_the_hub(folder: Path) -> Path:
    """As sentence-transformers 2 wrote a folder: other names of modules, pooling by flags, the length in a file."""
    edit(folder / "modules.json", lambda modules: [m.update(type=legacy(m["type"])) for m in modules])
    mode = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))["pooling_mode"]
    flags = {"pooling_mode_cls_token": mode == "cls", "pooling_mode_mean_tokens": mode == "mean"}
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 16, **flags}), encoding="utf-8"
    )
    length = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"]
    limits = {"max_seq_length": length, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(limits), encoding="utf-8")
    edit(folder / "tokenizer_config.json", lambda config: config.update(model_max_length=512))
    return folder


def legacy(name: str) -> str:
    return f"sentence_transformers.models.{name.rpartition('.')[2]}"


def move_down(folder: Path) -> Path:
    """As early releases wrote it: the transformer in a folder of its own."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for file in [file for file in folder.iterdir() if file.is_file()]:
        if file.name not in ("modules.json", "config_sentence_transformers.json", "README.md"):
            file.rename(inner / file.name)
    edit(folder / "modules.json", lambda modules: modules[0].update(path="0_Transformer"))
    return folder


def without_tokenizer_json(folder: Path, xlmr: Path) -> Path:
    shutil.copytree(xlmr, folder)
    (folder / "tokenizer.json").unlink()
    return folder


LAYOUTS: dict[str, Callable[[Path, Path, Path], Path]] = {
    "xlmr": lambda folder, xlmr, bert: xlmr,
    "xlmr-sentencepiece": lambda folder, xlmr, bert: without_tokenizer_json(folder, xlmr),
    "labse": lambda folder, xlmr, bert: as_on_the_hub(save(folder, bert, "cls", 256, head=16)),
    "labse-now": lambda folder, xlmr, bert: save(folder, bert, "cls", 256, head=24),
    "e5": lambda folder, xlmr, bert: save(folder, xlmr, "mean", 512, query="query: ", passage="passage: "),
    "bge": lambda folder, xlmr, bert: as_on_the_hub(save(folder, bert, "cls", 512, query="Represent this: ")),
    "minilm": lambda folder, xlmr, bert: as_on_the_hub(save(folder, bert, "mean", 24)),
    "minilm-now": lambda folder, xlmr, bert: save(folder, bert, "mean", 24, document="A text: "),
    "0_Transformer": lambda folder, xlmr, bert: move_down(as_on_the_hub(save(folder, xlmr, "mean", 24))),
}


def load(folder: Path, **options: Any) -> Encoder:
    return Encoder.load(EncoderConfig(name=str(folder), **options))


def check_equal(encoder: Encoder, model: SentenceTransformer, texts: list[str]) -> None:
    for side, prefix in (("query", encoder.config.query_prefix), ("passage", encoder.config.passage_prefix)):
        expected = model.encode([f"{prefix}{text}" for text in texts], normalize_embeddings=True)
        np.testing.assert_allclose(encoder.encode(texts, side), expected, **CLOSE)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_the_hub(layout: str, xlmr: Path, bert: Path, texts: list[str], tmp_path: Path) -> None:
    folder = LAYOUTS[layout](tmp_path / "model", xlmr, bert)
    model = sentence_transformer(folder)
    length = model.max_seq_length
    assert length == {"labse": 256, "minilm": 24, "0": 24}.get(layout.partition("-")[0].partition("_")[0], 512)
    lengths = {"max_query_length": length, "max_passage_length": length}
    encoder = load(folder, **lengths)
    assert len(encoder.tokenizer(texts[-1])["input_ids"]) > 1000
    check_equal(encoder, model, texts)
    with_prefixes = load(folder, query_prefix="Query: ", passage_prefix="", **lengths)
    check_equal(with_prefixes, model, texts[:6])

    with_prefixes.save(tmp_path / "again")
    again = sentence_transformer(tmp_path / "again")
    assert again.max_seq_length == length
    check_equal(with_prefixes, again, texts)
    for side in ("query", "passage"):
        named = again.encode(texts, prompt_name=side)
        np.testing.assert_allclose(load(tmp_path / "again").encode(texts, side), named, **CLOSE)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", ["e5", "minilm-now"])
def test_an_evaluation_takes_texts_as_long_as_the_model_does(
    layout: str, xlmr: Path, bert: Path, texts: list[str], tmp_path: Path
) -> None:
    """Training another model cuts queries at 64 tokens; measuring it must not."""
    folder = LAYOUTS[layout](tmp_path / "model", xlmr, bert)
    encoder = Encoder.load(as_published(EncoderConfig(name=str(folder))))
    check_equal(encoder, sentence_transformer(folder), texts)


@pytest.mark.parametrize(("layout", "prefixes"), [("e5", ("query: ", "passage: ")), ("minilm-now", ("", "A text: "))])
def test_prompts_of_the_model(layout: str, prefixes: tuple[str, str], xlmr: Path, bert: Path, tmp_path: Path) -> None:
    config = resolve(EncoderConfig(name=str(LAYOUTS[layout](tmp_path / "model", xlmr, bert))))
    assert (config.query_prefix, config.passage_prefix) == prefixes


HEADS: dict[str, tuple[str, list[Any], str]] = {
    "square root": ("mean_sqrt_len_tokens", [], "dot"),
    "max": ("max", [Normalize()], "cosine"),
    "weighted mean": ("weightedmean", [Normalize()], "cosine"),
    "last token": ("lasttoken", [Normalize()], "cosine"),
    "identity": ("mean", [Dense(16, 24, bias=False, activation_function=torch.nn.Identity()), Normalize()], "cosine"),
    "no Normalize": ("mean", [], "cosine"),
    "dot": ("cls", [], "dot"),
    "dot of a dense layer": ("mean", [Dense(16, 8)], "dot"),
    "dot, normalised": ("mean", [Normalize()], "dot"),
}


@pytest.mark.parametrize("case", HEADS)
def test_heads(case: str, bert: Path, texts: list[str], tmp_path: Path) -> None:
    """The prompts of a model and its similarity count too; once more after a save of ours."""
    pooling, rest, similarity = HEADS[case]
    transformer = Transformer(str(bert))
    transformer.max_seq_length = 24
    options = {"prompts": {"query": "Find: ", "document": "Find: "}}
    modules = [transformer, Pooling(16, pooling_mode=pooling), *rest]
    model = SentenceTransformer(modules=modules, similarity_fn_name=similarity, device="cpu", **options).double()
    model.save_pretrained(str(tmp_path / "model"))
    expected = model.encode(texts, prompt_name="query", normalize_embeddings=similarity == "cosine")
    assert (case in ("dot", "dot of a dense layer", "square root")) == (
        not np.allclose(np.linalg.norm(expected, axis=1), 1)
    )
    config = EncoderConfig(name=str(tmp_path / "model"), max_query_length=24)
    for ours in encode_here(config, texts, texts):
        np.testing.assert_allclose(ours, expected, **CLOSE)  # type: ignore[arg-type]
    Encoder.load(config).save(tmp_path / "again")
    again = sentence_transformer(tmp_path / "again")
    np.testing.assert_allclose(again.encode(texts, prompt_name="query"), expected, **CLOSE)  # type: ignore[arg-type]
    for ours in encode_here(EncoderConfig(name=str(tmp_path / "again")), texts, texts):
        np.testing.assert_allclose(ours, expected, **CLOSE)  # type: ignore[arg-type]


def test_sentencepiece_alone_is_the_same_tokenizer(xlmr: Path, texts: list[str], tmp_path: Path) -> None:
    folder = without_tokenizer_json(tmp_path / "model", xlmr)
    ids = load_tokenizer(str(folder))(texts)["input_ids"]
    assert ids == load_tokenizer(str(xlmr))(texts)["input_ids"]
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    assert ids[1] == [0, *(piece + 1 if piece else 3 for piece in pieces.encode(texts[1])), 2]  # fairseq's ids


# Lengths


LENGTHS: dict[str, tuple[str, dict[str, int], tuple[int, int]]] = {
    "default": ("config.json", {}, (64, 256)),
    "positions": ("config.json", {"max_position_embeddings": 60}, (58, 58)),
    "many positions": ("config.json", {"max_position_embeddings": 202}, (64, 200)),
    "tokenizer": ("tokenizer_config.json", {"model_max_length": 40}, (40, 40)),
    "our own": ("text_lengths.json", {"query": 30, "passage": 300}, (30, 300)),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_lengths_are_what_the_model_takes(case: str, xlmr: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(xlmr, tmp_path / "model")
    file, change, expected = LENGTHS[case]
    edit(folder / file, lambda content: content.update(change))
    config = resolve(EncoderConfig(name=str(folder)))
    assert (config.max_query_length, config.max_passage_length) == expected
    config = resolve(EncoderConfig(name=str(folder), max_query_length=7))
    assert (config.max_query_length, config.max_passage_length) == (7, expected[1])


def test_positions_start_behind_the_padding(xlmr: Path, bert: Path, texts: list[str]) -> None:
    for folder in (xlmr, bert):
        assert np.isfinite(load(folder, max_passage_length=512).encode(texts[-1:], "passage")).all()
        with pytest.raises(ValueError, match=r"max_passage_length is 513 tokens, .* takes at most 512: lower"):
            resolve(EncoderConfig(name=str(folder), max_passage_length=513))


# Refusals


@pytest.mark.parametrize("place", ["", "2_Dense"])
def test_pickled_weights_are_refused_and_the_remedy_works(
    place: str, bert: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = as_on_the_hub(save(tmp_path / "model", bert, "cls", 256, head=16))
    before = load(folder).encode(texts, "passage")
    torch.save(load_file(folder / place / "model.safetensors"), folder / place / "pytorch_model.bin")
    (folder / place / "model.safetensors").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
        with pytest.raises(ValueError, match=r"no (2_Dense/)?model\.safetensors.* SentenceTransformer\(.*\)\.save_pre"):
            load(folder)
        if place:
            load(folder, pooling="pooler")  # it does not need that file
    SentenceTransformer(str(folder), device="cpu").save_pretrained(str(tmp_path / "converted"))
    np.testing.assert_allclose(load(tmp_path / "converted").encode(texts, "passage"), before, **CLOSE)  # type: ignore[arg-type]


def test_pooling_of_the_recipe_leaves_the_dense_layer_out(bert: Path, texts: list[str], tmp_path: Path) -> None:
    folder = save(tmp_path / "model", bert, "cls", 256, head=24)
    assert load(folder).encode(texts[:2], "query").shape == (2, 24)
    for pooling in ("cls", "mean", "pooler"):
        ours = load(folder, pooling=pooling, max_passage_length=512).encode(texts, "passage")
        np.testing.assert_allclose(
            ours,
            load(bert, pooling=pooling, max_passage_length=512).encode(texts, "passage"),
            **CLOSE,  # type: ignore[arg-type]
        )


def test_lower_case_before_a_cased_tokenizer(bert: Path, texts: list[str], tmp_path: Path) -> None:
    folder = as_on_the_hub(save(tmp_path / "model", bert, "cls", 256))
    before = load(folder, max_query_length=256).encode(texts, "query")
    lower = shutil.copytree(folder, tmp_path / "lower")
    edit(lower / "sentence_bert_config.json", lambda content: content.update(do_lower_case=True))
    encoder = load(lower, max_query_length=256)
    check_equal(encoder, sentence_transformer(lower), texts)
    assert not np.allclose(encoder.encode(texts, "query"), before, atol=1e-3)
    encoder.save(tmp_path / "again")
    check_equal(encoder, sentence_transformer(tmp_path / "again"), texts)


def test_other_similarity(bert: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "model", bert, "cls", 256)
    edit(folder / "config_sentence_transformers.json", lambda content: content.update(similarity_fn_name="euclidean"))
    with pytest.raises(ValueError, match=r"similarity_fn_name to 'euclidean', .* supported are cosine, dot"):
        load(folder)


@pytest.mark.parametrize("value", [torch.nan, 1e308])
def test_broken_numbers(value: float, bert: Path, texts: list[str], tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"].fill_(value)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"embeddings of '{folder}' are not finite: .*Fetch the model again"):
        encode_here(EncoderConfig(name=str(folder)), texts[:2], texts[:2])


ORDERS = [["Transformer"], ["Transformer", "Normalize", "Pooling"], ["Transformer", "Pooling", "Dense", "Dense"]]
ORDERS += [["CLIPModel", "Pooling", "Normalize"], ["Transformer", "Pooling", "Normalize", "Dense"]]


@pytest.mark.parametrize("kinds", ORDERS)
def test_other_modules(kinds: list[str], bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    modules = [{"type": legacy(kind), "path": f"{i}_{kind}" if i else ""} for i, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(ValueError, match=f"has the modules {', '.join(kinds)}; supported are"):
        load(folder)


BROKEN: dict[str, tuple[str, str, str]] = {
    "modules": ("modules.json", '[{"idx": 0', r"modules\.json is not valid JSON: fetch or save the model again"),
    "bytes": ("text_lengths.json", "\xff", r"text_lengths\.json is not valid JSON"),
    "no path": ("modules.json", '[{"type": "Transformer"}]', "list modules with type and path"),
    "no modules": ("modules.json", "[1]", "list modules with type and path"),
    "no list": ("modules.json", '{"type": "Transformer", "path": ""}', "list modules with type and path"),
    "one length": ("text_lengths.json", '{"query": 64}', "must give lengths for `query` and `passage`"),
    "no length": ("text_lengths.json", "{}", "must give lengths for"),
    "yes as length": ("text_lengths.json", '{"query": 64, "passage": true}', "must give lengths for"),
    "length 0": ("text_lengths.json", '{"query": 0, "passage": 64}', "must give lengths for"),
    "text as length": ("text_lengths.json", '{"query": 64, "passage": "64"}', "must give lengths for"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(case: str, bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    file, content, message = BROKEN[case]
    (folder / file).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_decoder(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    edit(folder / "config.json", lambda config: config.update(is_decoder=True))
    with pytest.raises(ValueError, match=r"is a decoder \(is_decoder in its config\.json\).*: name an encoder"):
        load(folder)


def test_dropout_by_other_names(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "model")
    sizes = {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "vocab_size": 700}
    DistilBertModel(DistilBertConfig(**sizes)).save_pretrained(folder)
    load(folder)
    with pytest.raises(
        ValueError, match=r"^encoder\.dropout is 0\.3, but distilbert models have other fields .* leave it out"
    ):
        load(folder, dropout=0.3)
