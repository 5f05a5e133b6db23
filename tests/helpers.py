"""What tests share besides fixtures: small recipes and corpora, jobs run in this process, lines of files."""

import io
import json
import runpy
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt

from hybridir.batches.sampling import Sampling
from hybridir.batches.stream import BatchSource
from hybridir.data.build import build_corpus
from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.corpus import Corpus
from hybridir.data.formats import PAIR_READERS
from hybridir.data.intake import to_batches
from hybridir.data.records import Benchmark, Pair, Rejected
from hybridir.data.sources import with_format
from hybridir.evaluation.bias_summary import BIAS, BiasMeasure
from hybridir.evaluation.metrics import MEASURES, Measure
from hybridir.evaluation.scores import Scores
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.lora import LoraConfig
from hybridir.runs.prepare import Prepared
from hybridir.runs.recipe import Recipe, ScalingConfig
from hybridir.training.config import TrainConfig
from hybridir.training.loop import train
from hybridir.training.losses import LOSSES
from hybridir.training.losses.embedded import Loss
from hybridir.training.objective import LossConfig
from hybridir.training.validation import ValidationConfig
from hybridir.translation.families import FAMILIES

ROOT = Path(__file__).parents[1]
XQUAD_R = ROOT.parent / "shared" / "xquad-r"
"""Real data, where it lies beside the project."""
VOLATILE = {"time", "seconds", "pairs_per_s", "data_wait", "attempt"}
"""What two equal runs write differently."""


def small_recipe(output: Path, cache: Path, **sections: dict[str, Any]) -> Recipe:
    """A recipe that trains in about a second."""
    defaults: dict[str, dict[str, Any]] = {
        "data": {"facts": 80, "languages": ("de", "en", "es")},
        "sampling": {"mono": 0.5, "cross": 0.5},
        "encoder": {"layers": 1, "hidden_size": 32, "vocab_size": 400},
        "lora": {},
        "loss": {},
        "train": {"steps": 8, "batch_size": 8, "lr": 5e-3, "warmup_steps": 2, "checkpoint_every": 3},
        "validation": {"every": 4, "batches": 2, "batch_size": 4},
        "benchmark": {"name": "sample", "split": "test"},
        "scaling": {"num_workers": 0},
    }
    classes = {
        "data": DataConfig,
        "sampling": Sampling,
        "encoder": EncoderConfig,
        "lora": LoraConfig,
        "loss": LossConfig,
        "train": TrainConfig,
        "validation": ValidationConfig,
        "benchmark": BenchmarkConfig,
        "scaling": ScalingConfig,
    }
    made = {name: classes[name](**defaults[name] | sections.get(name, {})) for name in classes}
    return Recipe(**made, output=str(output), cache=str(cache))


def job(*arguments: object, name: str = "train") -> subprocess.CompletedProcess[str]:
    """A job in this process, which has imported what takes long; without tracking."""
    tracked = name in ("train", "evaluate", "study", "tune")
    before = 1 if name == "study" else 0  # the name of the study
    given = [*map(str, arguments)]
    command = [f"jobs/{name}.py", *given[:before], *("--tracking.enabled", "false") * tracked, *given[before:]]
    code: object = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        patch.setattr(sys, "argv", command)
        try:
            runpy.run_path(str(ROOT / command[0]), run_name="__main__")
        except SystemExit as ending:
            code = ending.code
    message = code if isinstance(code, str) else ""  # what Python prints of it
    status = code if isinstance(code, int) else bool(code)
    return subprocess.CompletedProcess(command, int(status), out.getvalue(), err.getvalue() + message)


def corpus_of(records: Iterable[Pair | Rejected], root: Path, validation_share: float = 0.0) -> Corpus:
    """A corpus of these records in a new folder under `root`."""
    return build_corpus(to_batches(records), root / f"corpus-{uuid.uuid4().hex}", validation_share)


def pairs_of(source: Source) -> list[Pair | Rejected]:
    """What the reader of a source yields."""
    return [record for shard in PAIR_READERS[with_format(source).format](source) for record in shard.read()]


def train_here(prepared: Prepared, **options: Any) -> tuple[dict[str, Any], Encoder]:
    """Trains in this process, on one thread; the last state and the encoder."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        encoder = Encoder.load(prepared.initial)
        return train(prepared.job, encoder, torch.device("cpu"), **options), encoder
    finally:
        torch.set_num_threads(threads)


def switched_on(weight: Callable[[int], float]) -> dict[str, Loss]:
    """Every loss, with a weight by its number. For a teacher see `with_teacher`."""
    of_teacher = {"distill": {"teacher": "given"}}
    return {
        name: replace(kind(), weight=weight(n), **of_teacher.get(name, {}))
        for n, (name, kind) in enumerate(LOSSES.items())
    }


def with_teacher(source: BatchSource, folder: Path, width: int = 32) -> BatchSource:
    """The source with random embeddings of a teacher, which does not know every fifth pair."""
    rng = np.random.default_rng(0)
    for side in ("query", "passage"):
        embedding_NT = rng.normal(size=(Corpus.open(source.corpus).n_pairs, width)).astype(np.float32)
        embedding_NT /= np.linalg.norm(embedding_NT, axis=1, keepdims=True)
        embedding_NT[::5] = 0
        np.save(folder / f"{side}.npy", embedding_NT)
    return replace(source, teacher=str(folder))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def steady(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of a history without what two equal runs write differently."""
    return [{k: v for k, v in line.items() if k not in VOLATILE} for line in lines]


class Row(NamedTuple):
    """One row of scores, with the position of its query and the measures that are defined."""

    query: int
    setting: str
    passage_language: str
    values: dict[str, float]


def rows_of(scores: Scores, benchmark: Benchmark, seed: int = 0) -> list[Row]:
    """Scores row by row."""
    number = {query.query_id: n for n, query in enumerate(benchmark.queries)}
    names = ("query_id", "setting", "passage_language")
    about = zip(*(scores.rows[name].tolist() for name in names), strict=True)
    columns = zip(*(values[seed] for values in scores.values.values()), strict=True)
    values = [dict(zip(scores.values, row, strict=True)) for row in columns]
    return [
        Row(number[query], setting, language, {k: float(v) for k, v in one.items() if not np.isnan(v)})
        for (query, setting, language), one in zip(about, values, strict=True)
    ]


def add_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds a measure of one query, one of parallel answers and one of bias to the dicts of measures."""
    monkeypatch.setitem(
        MEASURES, "P@3", Measure(function=lambda ranks: np.sum(ranks <= 3, axis=-1) / 3, title="Precision of three")
    )
    reach = Measure(
        function=lambda ranks: np.max(ranks, axis=-1).astype(float),
        title="Farthest answer",
        digits=1,
        lower_is_better=True,
        needs=("parallel",),
    )
    monkeypatch.setitem(MEASURES, "reach", reach)
    of_de = BiasMeasure(
        function=lambda of: {"in all": float(np.mean(of.language_P == 0))},
        title="Share of de",
        about="Made up.",
        best="best at the share of de",
        numbers=lambda entry: entry,
    )
    monkeypatch.setitem(BIAS, "of_de", of_de)


def tiny_translation_model(folder: Path, family: str, texts: Iterable[str], languages: Iterable[str]) -> Path:
    """A translation model with random weights (`m2m-100` or `madlad-400`) whose tokens are the words of `texts`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        M2M100Config,
        M2M100ForConditionalGeneration,
        PreTrainedTokenizerFast,
        T5Config,
        T5ForConditionalGeneration,
    )

    of_languages = [FAMILIES[family].token.format(language) for language in languages]
    words = dict.fromkeys(word for text in texts for word in text.split())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *of_languages, *words]
    tokenizer = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, additional_special_tokens=of_languages, **special
    ).save_pretrained(folder)
    ends = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False}
    torch.manual_seed(0)
    model: Any
    if family == "madlad-400":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokens), decoder_start_token_id=1, **sizes, **ends))
    else:
        each = {"layers": 1, "attention_heads": 2, "ffn_dim": 32}
        sizes = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in each.items()}
        sizes |= {"d_model": 16, "max_position_embeddings": 512}
        config = M2M100Config(vocab_size=len(tokens), decoder_start_token_id=2, init_std=0.5, **sizes, **ends)
        model = M2M100ForConditionalGeneration(config)
    rest = [n for n in range(4 + len(of_languages)) if n != 2]
    model.lm_head.weight.data[rest] = 0.0  # so that it writes words, not special tokens
    model.save_pretrained(folder)
    return folder


HOSTILE = "# [a](http://canary) ![x](http://canary/i) <img src=//canary> | ` *b*\n\n## forged\n\n[c](http://canary/c)"
"""A name that would be read as Markdown and HTML."""


def live(markdown: str) -> list[str]:
    """What a page makes of Markdown besides text and tables: headings, targets of links and images, HTML."""
    found = []
    for block in MarkdownIt("gfm-like", {"linkify": False}).parse(markdown):
        found += [block.markup] if block.type == "heading_open" else []
        for token in (block, *(block.children or ())):
            found += [str(one) for one in (token.attrs.get("href"), token.attrs.get("src")) if one]
            found += [token.content] if token.type.startswith("html") else []
    return found


@contextmanager
def foreign_server() -> Iterator[tuple[str, list[str | None]]]:
    """A server that answers nothing useful: its address, and the Authorization header of each request."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_error(404)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
