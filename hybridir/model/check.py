"""Fills and checks the configuration of an encoder, before any data or any large file is read."""

import os
from dataclasses import replace
from typing import get_args

from hybridir.model.config import EncoderConfig
from hybridir.model.families import family_of
from hybridir.model.files import check_hub, commit_of
from hybridir.model.folder import DEFAULT, Layout, Side, read_layout
from hybridir.model.head import read_head
from hybridir.model.modules import model_settings, not_read
from hybridir.model.tokenizer import load_tokenizer
from hybridir.model.weights import check_backbone, has_pooler, read_headers, weight_files


def check_encoder(config: EncoderConfig, fetch: bool = False) -> None:
    """Raises `ValueError` if `config` names no usable encoder.

    Of the backbone's weights only the headers are read, and those of a hub id only if they may be fetched.
    """
    if config.name:
        check_hub(config.name, config.revision)
    config = resolve(config)
    if not config.name:
        return
    layout = read_layout(config.name, config.revision)
    _check_tokens(config, layout.config.vocab_size)
    if config.dropout is not None:
        check_dropout(config, layout)
    if fetch or os.path.isdir(config.name):
        tensors = read_headers(weight_files(config.name, config.revision, layout.backbone))
        check_backbone(config.name, tensors, layout.config)
        if config.pooling == "pooler" and not has_pooler(tensors):
            raise ValueError(f"{config.name!r} has no pooler weights: set encoder.pooling to mean or cls")
    head = read_head(config.name, config.revision, layout.config.hidden_size, config.pooling)
    width = replace(head, truncate_dim=None).width(layout.config.hidden_size)
    if config.truncate_dim and config.truncate_dim > width:
        raise ValueError(
            f"encoder.truncate_dim is {config.truncate_dim}, but embeddings of {config.name!r} have {width} numbers: "
            "lower it"
        )


def _check_tokens(config: EncoderConfig, rows: int) -> None:
    """`ValueError` if the tokenizer makes tokens for which the model has no embedding, of which it has `rows`."""
    tokenizer = load_tokenizer(config.name, config.revision)
    numbers = {n: token for token, n in tokenizer.get_vocab().items()}
    around = dict.fromkeys(tokenizer("")["input_ids"], "put around each text")  # these have numbers only
    if beyond := {n: token for n, token in (around | numbers).items() if n >= rows}:
        first = min(beyond)
        raise ValueError(
            f"the tokenizer of {config.name!r} has {len(numbers)} tokens, but the model has embeddings for {rows} "
            f"(vocab_size in config.json): {len(beyond)} have none, the first is number {first} ({beyond[first]!r}). "
            f"Put the model's own tokenizer beside it, or save it after resize_token_embeddings({max(beyond) + 1})"
        )


def notes_on(config: EncoderConfig, temperature: float | None = None) -> list[str]:
    """What should be known before an encoder is used: settings that differ from the model's own, a moving revision.

    `temperature` is that of the training, if it will be trained.
    """
    if not config.name:
        return []
    found, own = [], read_layout(config.name, config.revision).prompts
    for side in get_args(Side):
        given = getattr(config, f"{side}_prefix")
        if given is not None and given != own[side] and any(own.values()):
            found.append(f"encoder.{side}_prefix is {given!r}, but the model's own prompt is {own[side]!r}")
    if files := not_read(config.name, config.revision):
        found.append(
            f"{config.name}: without modules.json, {' and '.join(files)} are not read, as in sentence-transformers: "
            "add modules.json, or set what they say under encoder"
        )
    settings = model_settings(config.name, config.revision)
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if config.passage_prefix is None and own["passage"] and prompts and not prompts.get("document"):
        found.append(
            f"{config.name}: its prompt {own['passage']!r} is put before passages. sentence-transformers adds an empty "
            "prompt `document`, which its encode_document takes instead: for that, set encoder.passage_prefix to ''"
        )
    if prompts.get(default) and prompts[default] not in own.values():
        found.append(
            f"{config.name}: its default prompt {prompts[default]!r} is put before no text, as in encode_query and "
            "encode_document of sentence-transformers: to use it, set encoder.query_prefix and encoder.passage_prefix"
        )
    commit = commit_of(config.name, config.revision)
    if commit and config.revision != commit:
        found.append(f"{config.name}: the hub has commit {commit} now. To use it again, set encoder.revision to it")
    family = family_of(config.name)
    if temperature and family and family.temperature and temperature != family.temperature:
        found.append(
            f"loss.temperature is {temperature}, but {family.title} was trained with {family.temperature}: "
            "similarities of other temperatures have other spreads"
        )
    return found


def check_dropout(config: EncoderConfig, layout: Layout) -> list[str]:
    """The fields for dropout in a backbone's config; `ValueError` if it has none that BERT's config has."""
    names = [name for name in ("hidden_dropout_prob", "attention_probs_dropout_prob") if hasattr(layout.config, name)]
    if not names:
        raise ValueError(
            f"encoder.dropout is {config.dropout}, but {layout.config.model_type} models have other fields for dropout "
            "than BERT: leave it out, and set the dropout in the model's config.json"
        )
    return names


def resolve(config: EncoderConfig) -> EncoderConfig:
    """Fills omitted prefixes and lengths from the model's files, else with the defaults for training.

    The commit of a hub id is filled in too, so that all that is read of it is of one state. Pooling stays omitted where
    the model's files say it.

    Raises:
        ValueError: there is no encoder of that name, or a length is above what the model can take.
    """
    layout = read_layout(config.name, config.revision) if config.name else DEFAULT
    prompts, lengths = layout.prompts, layout.lengths
    resolved = replace(
        config,
        revision=(commit_of(config.name, config.revision) if config.name else None) or config.revision,
        pooling=config.pooling or layout.pooling,  # type: ignore[arg-type]
        query_prefix=prompts["query"] if config.query_prefix is None else config.query_prefix,
        passage_prefix=prompts["passage"] if config.passage_prefix is None else config.passage_prefix,
        max_query_length=lengths["query"] if config.max_query_length is None else config.max_query_length,
        max_passage_length=lengths["passage"] if config.max_passage_length is None else config.max_passage_length,
    )
    longest = max(resolved.max_length(side) for side in get_args(Side))
    if layout.positions and longest > layout.positions:
        raise ValueError(
            f"the longer of encoder.max_query_length and encoder.max_passage_length is {longest} tokens, but "
            f"{config.name!r} takes at most {layout.positions}: lower it"
        )
    return resolved


def as_published(config: EncoderConfig) -> EncoderConfig:
    """Fills omitted lengths with the model's own maximum, at which sentence-transformers would cut too.

    For measuring a published model. A model of this project keeps the lengths that it was trained with.
    """
    longest = read_layout(config.name, config.revision).longest
    return replace(
        config,
        revision=commit_of(config.name, config.revision) or config.revision,
        max_query_length=config.max_query_length or longest["query"],
        max_passage_length=config.max_passage_length or longest["passage"],
    )
