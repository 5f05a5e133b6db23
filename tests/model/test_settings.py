"""Every setting of a model folder is honoured as in sentence-transformers, or refused by name before the start."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import job
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from test_encoder import CLOSE, TEXTS, save_bert, save_xlmr
from transformers import BartConfig, BartModel, CLIPConfig, LukeConfig, MT5Config, MT5Model, T5Config, T5Model

from hybridir.model.check import as_published, check_encoder, notes_on, resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.tokenizer import load_tokenizer

TEXTS = TEXTS[:5]
Change = Callable[[Any], object]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert") / "plain")


@pytest.fixture(scope="module")
def layout(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All modules that are supported, with prompts."""
    folder = tmp_path_factory.mktemp("layout") / "model"
    torch.manual_seed(3)
    modules = [Transformer(str(plain)), Pooling(16), Dense(16, 12), Normalize()]
    prompts = {"query": "query: ", "document": "passage: "}
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").double().save_pretrained(str(folder))
    return folder


@pytest.fixture
def model(layout: Path, tmp_path: Path) -> Path:
    return shutil.copytree(layout, tmp_path / "model")


def edit(file: Path, change: Change) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def encoder_of(folder: Path, **options: Any) -> Encoder:
    return Encoder.load(as_published(EncoderConfig(name=str(folder), **options)))


def equal(folder: Path, normalize: bool = True) -> Encoder:
    """Checks that both sides are embedded as sentence-transformers does; the same after a save of ours."""
    encoder = encoder_of(folder)
    theirs = SentenceTransformer(str(folder), device="cpu").double()
    for one in (theirs, None):
        if one is None:
            encoder.save(folder.parent / "again")
            one = SentenceTransformer(str(folder.parent / "again"), device="cpu").double()
        expected = one.encode_query(TEXTS, normalize_embeddings=normalize)
        np.testing.assert_allclose(encoder.encode(TEXTS, "query"), expected, **CLOSE)
        expected = one.encode_document(TEXTS, normalize_embeddings=normalize)
        np.testing.assert_allclose(encoder.encode(TEXTS, "passage"), expected, **CLOSE)
    return encoder


# Honoured


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("dim", [5, 12, 100])
def test_truncate_dim(similarity: str, normalised: bool, dim: int, model: Path) -> None:
    """The cut comes after the Normalize module; what is scored by dot product is not scaled again."""
    edit(
        model / "config_sentence_transformers.json", lambda c: c.update(truncate_dim=dim, similarity_fn_name=similarity)
    )
    if not normalised:
        edit(model / "modules.json", lambda modules: modules.pop())
    encoder = equal(model, normalize=similarity == "cosine")
    assert encoder.encode(TEXTS, "query").shape == (5, min(dim, 12))
    lengths = np.linalg.norm(encoder.encode(TEXTS, "query"), axis=1)
    assert np.allclose(lengths, 1) == (similarity == "cosine" or (normalised and dim >= 12))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_a_pooling_of_the_config_keeps_the_cut_and_the_similarity(similarity: str, model: Path) -> None:
    """As if the model had that pooling, and no dense layer."""
    edit(model / "config_sentence_transformers.json", lambda c: c.update(truncate_dim=5, similarity_fn_name=similarity))
    if similarity == "dot":
        edit(model / "modules.json", lambda modules: modules.pop())
    ours = encoder_of(model, pooling="cls").encode(TEXTS, "query")
    edit(model / "modules.json", lambda modules: modules.pop(2))
    edit(model / "1_Pooling" / "config.json", lambda c: c.update(pooling_mode="cls"))
    theirs = SentenceTransformer(str(model), device="cpu").double()
    expected = theirs.encode_query(TEXTS, normalize_embeddings=similarity == "cosine")
    assert expected.shape == (5, 5)
    np.testing.assert_allclose(ours, expected, **CLOSE)
    assert encoder_of(model, pooling="pooler").width == 5
    check_encoder(EncoderConfig(name=str(model), pooling="cls", truncate_dim=16))
    with pytest.raises(ValueError, match="have 16 numbers: lower it"):
        check_encoder(EncoderConfig(name=str(model), pooling="cls", truncate_dim=17))


def test_files_for_sentence_transformers_without_its_modules(plain: Path, tmp_path: Path) -> None:
    """It does not read them; neither in part."""
    folder = shutil.copytree(plain, tmp_path / "model")
    about = {"prompts": {"query": "q: ", "document": "d: "}, "truncate_dim": 5, "similarity_fn_name": "dot"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5, "do_lower_case": true}', encoding="utf-8")
    assert equal(folder).width == 16
    (note,) = notes_on(EncoderConfig(name=str(folder)))
    assert "without modules.json, config_sentence_transformers.json and sentence_bert_config.json are not read" in note


def test_training_and_evaluation_see_the_same_numbers_of_a_cut_model(model: Path) -> None:
    edit(model / "config_sentence_transformers.json", lambda c: c.update(truncate_dim=5))
    encoder = encoder_of(model).eval()
    ids = encoder.tokenizer([f"query: {TEXTS[0]}"])["input_ids"][0]
    with torch.no_grad():
        trained = encoder(torch.tensor(ids), torch.tensor([len(ids)])).numpy()
    np.testing.assert_allclose(encoder.encode(TEXTS[:1], "query"), trained, **CLOSE)


PROMPTS: dict[str, tuple[dict[str, str], str | None]] = {
    "document before passage": ({"query": "q: ", "passage": "p: ", "document": "d: "}, None),
    "default of a side": ({"query": "q: ", "document": "d: "}, "query"),
    "default of no side": ({"retrieval": "Find: "}, "retrieval"),
    "default beside one side": ({"retrieval": "Find: ", "query": "q: "}, "retrieval"),
    "one side": ({"document": "d: "}, "document"),
    "none": ({}, None),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_prompts_are_those_of_encode_query_and_encode_document(case: str, model: Path) -> None:
    prompts, default = PROMPTS[case]
    edit(
        model / "config_sentence_transformers.json",
        lambda c: c.update(prompts=prompts, default_prompt_name=default),
    )
    equal(model)
    notes = notes_on(EncoderConfig(name=str(model)))
    assert len(notes) == ("retrieval" in prompts)
    assert all("its default prompt 'Find: ' is put before no text, as in encode_query" in note for note in notes)


def test_a_passage_prompt_counts_although_the_library_adds_an_empty_one(model: Path) -> None:
    """Saving prompts for query and passage, sentence-transformers adds an empty `document` unasked."""
    edit(
        model / "config_sentence_transformers.json",
        lambda c: c.update(prompts={"query": "q: ", "passage": "p: ", "document": ""}),
    )
    assert resolve(EncoderConfig(name=str(model))).passage_prefix == "p: "


@pytest.mark.parametrize("name", ["passage", "corpus"])
def test_where_a_passage_prompt_differs_from_encode_document_it_is_said(name: str, model: Path) -> None:
    edit(model / "config_sentence_transformers.json", lambda c: c.update(prompts={name: "p: "}))
    theirs = SentenceTransformer(str(model), device="cpu").double()
    named, asked = theirs.encode(TEXTS, prompt_name=name), theirs.encode_document(TEXTS)
    assert not np.allclose(named, asked, atol=1e-3)
    (note,) = notes_on(EncoderConfig(name=str(model)))
    assert "its prompt 'p: ' is put before passages. sentence-transformers adds an empty prompt `document`" in note
    np.testing.assert_allclose(encoder_of(model).encode(TEXTS, "passage"), named, **CLOSE)
    np.testing.assert_allclose(encoder_of(model, passage_prefix="").encode(TEXTS, "passage"), asked, **CLOSE)
    assert not any("encode_document" in one for one in notes_on(EncoderConfig(name=str(model), passage_prefix="")))


def test_lengths_of_each_side(model: Path) -> None:
    edit(model / "sentence_bert_config.json", lambda c: c.update(query_length=9, document_length=20))
    config = as_published(EncoderConfig(name=str(model)))
    assert (config.max_query_length, config.max_passage_length) == (9, 20)
    theirs = SentenceTransformer(str(model), device="cpu").double()
    ours = Encoder.load(config)
    np.testing.assert_allclose(ours.encode(TEXTS, "query"), theirs.encode_query(TEXTS), **CLOSE)
    np.testing.assert_allclose(ours.encode(TEXTS, "passage"), theirs.encode_document(TEXTS), **CLOSE)


def test_settings_under_an_older_name(model: Path) -> None:
    (model / "sentence_bert_config.json").unlink()
    (model / "sentence_roberta_config.json").write_text(
        '{"max_seq_length": 11, "do_lower_case": false}', encoding="utf-8"
    )
    assert resolve(EncoderConfig(name=str(model))).max_passage_length == 11
    equal(model)


def test_pooling_without_a_mode_is_the_mean(model: Path) -> None:
    (model / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 16}', encoding="utf-8")
    assert equal(model).head.pooling == "mean"


SMALL = {"vocab_size": 120, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}


@pytest.mark.parametrize(("kind", "settings"), [(T5Model, T5Config), (MT5Model, MT5Config)])
def test_the_encoder_of_t5(kind: Any, settings: Any, plain: Path, tmp_path: Path) -> None:
    """As published: with its decoder, in float32."""
    folder = shutil.copytree(plain, tmp_path / "model")
    torch.manual_seed(4)
    kind(settings(**SMALL, pad_token_id=0, decoder_start_token_id=0)).double().save_pretrained(folder)
    assert any(key.startswith("decoder") for key in load_file(folder / "model.safetensors"))
    encoder = equal(folder)
    assert not any("decoder" in key for key in encoder.state_dict())
    check_encoder(EncoderConfig(name=str(tmp_path / "again")))


def test_a_tokenizer_without_a_pad_token(layout: Path, model: Path) -> None:
    with_pad = encoder_of(layout).encode(TEXTS, "query")
    edit(model / "tokenizer_config.json", lambda c: c.pop("pad_token"))
    without = encoder_of(model)
    assert without.tokenizer.pad_token_id is None
    np.testing.assert_allclose(without.encode(TEXTS, "query"), with_pad, **CLOSE)


# Refused


REFUSED: dict[str, tuple[str, Change, str]] = {
    "unknown setting": ("config_sentence_transformers.json", lambda c: c.update(skiplist=["a"]), "sets skiplist to"),
    "sparse": (
        "config_sentence_transformers.json",
        lambda c: c.update(model_type="SparseEncoder"),
        "sets model_type to 'SparseEncoder', which is not supported: supported are SentenceTransformer",
    ),
    "truncate to nothing": (
        "config_sentence_transformers.json",
        lambda c: c.update(truncate_dim=0),
        "sets truncate_dim to 0: it must be a whole number above 0",
    ),
    "truncate to yes": (
        "config_sentence_transformers.json",
        lambda c: c.update(truncate_dim=True),
        "sets truncate_dim to True: it must be a whole number above 0",
    ),
    "a number as prompt": (
        "config_sentence_transformers.json",
        lambda c: c.update(prompts={"query": 5}),
        "sets prompts to {'query': 5}: it must hold texts by name",
    ),
    "a list of prompts": (
        "config_sentence_transformers.json",
        lambda c: c.update(prompts=["a"]),
        r"sets prompts to \['a'\]: it must hold texts by name",
    ),
    "a number as default": (
        "config_sentence_transformers.json",
        lambda c: c.update(default_prompt_name=["query"]),
        r"default_prompt_name to \['query'\]: it must be the name of a prompt",
    ),
    "a number as pooling": ("1_Pooling/config.json", lambda c: c.update(pooling_mode=5), "the name of a pooling"),
    "lower case": ("sentence_bert_config.json", lambda c: c.update(do_lower_case="no"), "it must be true or false"),
    "length": ("sentence_bert_config.json", lambda c: c.update(query_length="9"), "it must be a number above 0"),
    "longest": ("tokenizer_config.json", lambda c: c.update(model_max_length="9"), "it must be a number above 0"),
    "width": ("2_Dense/config.json", lambda c: c.update(out_features=True), "it must be a whole number above 0"),
    "requirement": (
        "config_sentence_transformers.json",
        lambda c: c.update(requirements={"torch": "<1.0"}),
        r"requires torch<1\.0, but \d.* is installed",
    ),
    "task": ("sentence_bert_config.json", lambda c: c.update(transformer_task="fill-mask"), "transformer_task to"),
    "expansion": ("sentence_bert_config.json", lambda c: c.update(query_expansion={"length": 32}), "query_expansion"),
    "output": ("sentence_bert_config.json", lambda c: c.update(module_output_name="x"), "module_output_name to 'x'"),
    "modality": (
        "sentence_bert_config.json",
        lambda c: c["modality_config"]["text"].update(method="get_text_features"),
        "modality_config to",
    ),
    "model_args": (
        "sentence_bert_config.json",
        lambda c: c.update(model_args={"attn_implementation": "someone/kernel"}),
        "sets model_args to .*someone/kernel",
    ),
    "chat": ("sentence_bert_config.json", lambda c: c.update(processing_kwargs={"text": {}}), "processing_kwargs"),
    "unknown of the transformer": ("sentence_bert_config.json", lambda c: c.update(new=1), "sets new to 1"),
    "pooling": ("1_Pooling/config.json", lambda c: c.update(new=1), "sets new to 1"),
    "dense input": ("2_Dense/config.json", lambda c: c.update(module_input_name="x"), "module_input_name to 'x'"),
    "dense of others": (
        "2_Dense/config.json",
        lambda c: c.update(activation_function="theirs.Identity"),
        "theirs.Identity is not one of",
    ),
    "dense and backbone": ("2_Dense/config.json", lambda c: c.update(in_features=8), "are broken: its config.json"),
    "normalize input": (
        "3_Normalize/config.json",
        lambda c: c.update(module_input_name="x"),
        "module_input_name to 'x'",
    ),
    "kwargs": ("modules.json", lambda c: c[0].update(kwargs=["task"]), "sets kwargs of .*Transformer"),
    "own module": (
        "modules.json",
        lambda c: c[0].update(type="custom_st.Transformer"),
        r"the module custom_st\.Transformer of .* is not supported",
    ),
    "Router": (
        "modules.json",
        lambda c: c[0].update(type="sentence_transformers.base.modules.router.Router"),
        "the module Router of .* is not supported",
    ),
    "CLIP": (
        "modules.json",
        lambda c: c[0].update(type="sentence_transformers.models.CLIPModel"),
        "the module CLIPModel of .* is not supported",
    ),
    "quantised": (
        "config.json",
        lambda c: c.update(quantization_config={"quant_method": "bitsandbytes"}),
        r"quantised weights \(quantization_config .* name the model that they were made from",
    ),
    "weights elsewhere": ("config.json", lambda c: c.update(transformers_weights="x"), "sets transformers_weights"),
    "fewer tokens": (
        "config.json",
        lambda c: c.update(vocab_size=90),
        r"the tokenizer of .* has 100 tokens, but the model has embeddings for 90 \(.*: 10 have none, the first is "
        r"number 90 \('.+'\)\. Put .*resize_token_embeddings\(100\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_refused_by_name(case: str, model: Path) -> None:
    config = EncoderConfig(name=str(model))
    check_encoder(config)
    file, change, message = REFUSED[case]
    edit(model / file, change)
    for find_out in (check_encoder, Encoder.load):
        with pytest.raises(ValueError, match=message):
            find_out(config)


def test_a_token_around_each_text_has_an_embedding(model: Path) -> None:
    """Its number stands apart from the vocabulary, and counts where the class of the tokenizer does not set it."""
    edit(model / "tokenizer.json", lambda c: c["post_processor"]["special_tokens"]["[CLS]"].update(ids=[120]))
    edit(model / "tokenizer_config.json", lambda c: c.update(tokenizer_class="PreTrainedTokenizerFast"))
    with pytest.raises(ValueError, match=r"1 have none, the first is number 120 .'put around each text'.*"):
        check_encoder(EncoderConfig(name=str(model)))


@pytest.mark.parametrize(("end", "kind", "name"), [("", torch.int8, "I8"), (".qweight", torch.int32, "I32")])
def test_quantised_tensors(end: str, kind: torch.dtype, name: str, model: Path) -> None:
    """`qweight` is GPTQ's, without a word in config.json; numbers of positions are no weights."""
    weights = load_file(model / "model.safetensors")
    weights["embeddings.position_ids"] = torch.arange(8, dtype=torch.int32)[None]
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    check_encoder(EncoderConfig(name=str(model)))
    key = "encoder.layer.0.output.dense"
    weights[key + (end or ".weight")] = weights.pop(key + ".weight").to(kind)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"quantised weights \({key}{end or '.weight'} is {name}\)"):
        check_encoder(EncoderConfig(name=str(model)))
    (model / "quantize_config.json").write_text('{"bits": 4}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"quantised weights \(quantize_config.json\).* name the model that they were"):
        check_encoder(EncoderConfig(name=str(model)))


OTHER_WEIGHTS = {
    "model-q4.gguf": "only weights as GGUF, which are not read: name the model that they were made from",
    "onnx/model.onnx": "only weights as ONNX, which are not read: name the model that they were made from",
    "pytorch_model.bin": r"can run code\)\. If you trust it, convert it once by SentenceTransformer\(",
    "": "model.safetensors: fetch or save the model again",
}


@pytest.mark.parametrize("file", OTHER_WEIGHTS)
def test_weights_in_other_formats(file: str, model: Path) -> None:
    (model / "model.safetensors").unlink()
    if file:
        (model / file).parent.mkdir(exist_ok=True)
        (model / file).touch()
    with pytest.raises(ValueError, match=OTHER_WEIGHTS[file]):
        check_encoder(EncoderConfig(name=str(model)))


@pytest.mark.parametrize("with_base", [True, False])
def test_adapters_without_their_settings(with_base: bool, model: Path) -> None:
    (model / "adapter_model.safetensors").touch()
    if not with_base:
        (model / "config.json").unlink()
    with pytest.raises(ValueError, match=r"weights of an adapter \(adapter_model.safetensors\), but no adapter_config"):
        check_encoder(EncoderConfig(name=str(model)))


def test_static_embeddings(plain: Path, tmp_path: Path) -> None:
    static = StaticEmbedding(load_tokenizer(str(plain)).backend_tokenizer, embedding_dim=8)
    SentenceTransformer(modules=[static], device="cpu").save_pretrained(str(tmp_path / "model"))
    with pytest.raises(ValueError, match=r"the module StaticEmbedding of .* is not supported"):
        check_encoder(EncoderConfig(name=str(tmp_path / "model")))


def test_models_of_other_kinds(plain: Path, tmp_path: Path) -> None:
    bart = BartConfig(vocab_size=120, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16)
    for settings, message in (
        (bart, "is an encoder-decoder \\(bart\\); only the encoders of t5, mt5, umt5 are supported"),
        (LukeConfig(), "models of the type luke are not supported"),
        (CLIPConfig(), "models of the type clip are not supported"),
    ):
        folder = shutil.copytree(plain, tmp_path / settings.model_type)
        settings.save_pretrained(folder)
        with pytest.raises(ValueError, match=message):
            check_encoder(EncoderConfig(name=str(folder)))
    assert BartModel.config_class is BartConfig


@pytest.mark.parametrize("with_base", [True, False])
def test_adapters_say_how_they_are_merged(with_base: bool, model: Path) -> None:
    about = {"peft_type": "LORA", "base_model_name_or_path": "FacebookAI/xlm-roberta-base"}
    (model / "adapter_config.json").write_text(json.dumps(about), encoding="utf-8")
    if not with_base:
        (model / "config.json").unlink()
        (model / "model.safetensors").unlink()
    message = (
        r"has an adapter \(adapter_config\.json, of FacebookAI/xlm-roberta-base\), which is not applied.*merge_and"
    )
    with pytest.raises(ValueError, match=message):
        check_encoder(EncoderConfig(name=str(model)))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"base_model_name_or_path": None}, r"of a model that it does not name\).*AutoModel.from_pretrained\(BASE\)"),
        ({"base_model_name_or_path": "b", "auto_mapping": {"base_model_class": "T5EncoderModel"}},
         r"transformers\.T5EncoderModel\.from_pretrained\('b'\)"),
    ],
)  # fmt: skip
def test_the_command_that_merges_names_what_is_known(about: dict[str, Any], message: str, model: Path) -> None:
    (model / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | about), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        check_encoder(EncoderConfig(name=str(model)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_layers": [1, 10**9]}, "num_layers 1000000000: more than 200"),
        ({"stages": [{"depth": 10**9}]}, "depth 1000000000: more than 200"),
        ({"block_sizes": [1] * 10_001}, "lists 10001 values of block_sizes: more than 10000"),
    ],
)
def test_counts_in_lists_are_bounded(settings: dict[str, Any], message: str, model: Path) -> None:
    edit(model / "config.json", lambda c: c.update(settings))
    with pytest.raises(ValueError, match=message):
        check_encoder(EncoderConfig(name=str(model)))


def test_the_pooler_that_lacks_is_found_before_weights_are_read(tmp_path: Path) -> None:
    folder = save_xlmr(tmp_path / "model")
    check_encoder(EncoderConfig(name=str(folder)))
    with pytest.raises(ValueError, match="no pooler weights"):
        check_encoder(EncoderConfig(name=str(folder), pooling="pooler"))


def test_dry_runs_find_it(model: Path, tmp_path: Path) -> None:
    edit(model / "config.json", lambda c: c.update(vocab_size=90))
    for name in ("train", "evaluate"):
        done = job("--encoder.name", model, "--dry_run", "--output", tmp_path / name, name=name)
        assert done.returncode == 1
        assert "has 100 tokens, but the model has embeddings for 90" in done.stderr


def test_truncate_dim_of_the_recipe(model: Path, tmp_path: Path) -> None:
    """The first numbers of the whole embedding, normalised; sentence-transformers reads the saved model likewise."""
    whole, encoder = encoder_of(model).encode(TEXTS, "query"), encoder_of(model, truncate_dim=6)
    found, cut = encoder.encode(TEXTS, "query"), whole[:, :6]
    np.testing.assert_allclose(found, cut / np.linalg.norm(cut, axis=1, keepdims=True), **CLOSE)
    encoder.save(tmp_path / "saved")
    assert Encoder.load(str(tmp_path / "saved")).width == 6
    reference = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(reference.encode_query(TEXTS, normalize_embeddings=True), found, atol=1e-5)
    with pytest.raises(ValueError, match=rf"truncate_dim is 999, but embeddings of '{model}' have {whole.shape[1]}"):
        encoder_of(model, truncate_dim=999)
    with pytest.raises(ValueError, match=r"truncate_dim is 65, but embeddings have encoder\.hidden_size 64 numbers"):
        EncoderConfig(hidden_size=64, truncate_dim=65)
