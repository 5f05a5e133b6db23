"""GradCache: the gradients are those of the whole batch at once, for every loss, with dropout and on several ranks."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers import read_lines, steady, switched_on, train_here, with_teacher
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hybridir.batches.sampling import Sampling, Translations
from hybridir.batches.stream import BatchSource, TokenBatch
from hybridir.model.config import EncoderConfig
from hybridir.model.distributed import rank, world_size
from hybridir.model.encoder import Encoder
from hybridir.runs.prepare import Prepared
from hybridir.training import grad_cache
from hybridir.training.config import TrainConfig
from hybridir.training.grad_cache import add_gradients
from hybridir.training.loop import STOP
from hybridir.training.losses.distill import Distill
from hybridir.training.losses.matryoshka import Matryoshka
from hybridir.training.losses.multilingual import Multilingual
from hybridir.training.objective import DualEncoder, LossConfig, by_view

CPU = torch.device("cpu")
OFF = switched_on(lambda n: 0.0)
ALONE = {name: {**OFF, name: term} for name, term in switched_on(lambda n: 1.5).items()}
TOGETHER = switched_on(lambda n: 0.5 + n)
CUT = TOGETHER | {
    "matryoshka": Matryoshka(dimensions=(16, 5)),
    "distill": Distill(weight=1, teacher="x", match="scores"),
}
TERMS = {**ALONE, "all": TOGETHER, "matryoshka": CUT}
LOSS = {name: LossConfig(learn_temperature=True, **terms) for name, terms in TERMS.items()}
ONE, SOME, _, MANY = TOKENS = (1, 50, 110, 100_000)
"""Tokens of a chunk: every text for itself, and one query a block; several chunks; one chunk."""


@pytest.fixture(scope="module")
def initial(small_run: Prepared, float64: Path) -> EncoderConfig:
    return replace(small_run.initial, name=str(float64))


@pytest.fixture(scope="module")
def taught(small_run: Prepared, tmp_path_factory: pytest.TempPathFactory) -> BatchSource:
    return with_teacher(small_run.job.source, tmp_path_factory.mktemp("teacher"))


def views(source: BatchSource, kind: str) -> BatchSource:
    """Batches of one kind with every view; of three translations of a passage one is never there."""
    weights = {"mono": 0.0, "cross": 0.0, kind: 1.0}
    sampling = Sampling(**weights, translations=Translations(passage=3, query=2))
    return replace(source, sampling=sampling, noisy_query=True)


def build(initial: EncoderConfig, loss: LossConfig, dropout: float = 0.0) -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder(Encoder.load(replace(initial, dropout=dropout)), loss).train()


def found(model: nn.Module, terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Terms of the loss and gradients, in one dict."""
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) > 15
    assert "log_temperature" in gradients
    return gradients | {f"term {name}": term for name, term in terms.items()}


def assert_same(ours: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Equal to 1e-9; what is far below the largest value of all (the bias of keys has no gradient) to 1e-11 of that."""
    assert ours.keys() == wanted.keys()
    largest = max(float(value.abs().max()) for value in wanted.values())
    for name in wanted:
        torch.testing.assert_close(
            ours[name], wanted[name], rtol=1e-9, atol=1e-11 * largest, msg=lambda m, n=name: n + m
        )


def of_each_kind(terms: str, kind: str) -> Any:
    """One loss on one kind of batches; the two kinds that make up `both` are slow for a single loss."""
    return pytest.param(terms, kind, marks=() if kind == "both" or terms == "all" else pytest.mark.slow)


@pytest.mark.parametrize(
    ("terms", "kind"), [of_each_kind(terms, kind) for terms in LOSS for kind in ("mono", "cross", "both")]
)
def test_gradients_and_terms_are_those_of_the_whole_batch(
    taught: BatchSource, initial: EncoderConfig, terms: str, kind: str
) -> None:
    batch, model = views(taught, kind).batch(0), build(initial, LOSS[terms])
    assert (batch.lengths == 0).any()
    wanted = found(model, add_gradients(model, batch, CPU, TrainConfig()))
    for tokens in TOKENS if terms == "all" else (SOME,):
        model.zero_grad()
        assert_same(found(model, add_gradients(model, batch, CPU, TrainConfig(chunk_tokens=tokens))), wanted)
    # Gradients are added to those that are there, as by any backward pass.
    add_gradients(model, batch, CPU, TrainConfig(chunk_tokens=SOME))
    assert_same(found(model, {}), {k: 2 * v for k, v in wanted.items() if not k.startswith("term ")})


@pytest.mark.parametrize("tokens", TOKENS)
def test_chunks_hold_each_text_once_and_no_more_than_their_tokens(small_run: Prepared, tokens: int) -> None:
    batch = views(small_run.job.source, "cross").batch(0)
    texts = np.split(batch.ids, np.cumsum(batch.lengths)[:-1])
    chunks = grad_cache._chunks(batch, tokens, CPU)
    for chunk in chunks:
        assert int(chunk.lengths.sum()) <= tokens or len(chunk.places) == 1
        wanted = [texts[place] for place in chunk.places.tolist()]
        assert chunk.lengths.tolist() == [len(text) for text in wanted]
        assert chunk.ids.tolist() == np.concatenate(wanted).tolist()
    places = torch.cat([chunk.places for chunk in chunks]).tolist()
    assert sorted(places) == np.flatnonzero(batch.lengths).tolist()
    assert (np.diff(batch.lengths[places]) <= 0).all()
    assert len({chunk.seed for chunk in chunks}) == len(chunks)


def with_one_graph(model: DualEncoder, batch: TokenBatch, tokens: int) -> dict[str, Tensor]:
    """The gradients of this rank's loss in one graph, with the dropout of chunks of so many tokens."""
    torch.manual_seed(7)
    chunks = grad_cache._chunks(batch, tokens, CPU)
    parts = [grad_cache._encode(model, chunk, False) for chunk in chunks]
    places = torch.cat([chunk.places for chunk in chunks])
    embeddings = torch.cat([embedded for embedded, _ in parts])
    whole = embeddings.new_zeros(len(batch.lengths), embeddings.shape[1]).index_put((places,), embeddings)
    embedded = by_view(batch, whole, parts[0][1])
    terms = model.loss.values(embedded)
    model.loss.total(terms).mean().backward()
    return found(model, {name: term.detach() for name, term in terms.items()})


def cached(model: nn.Module, batch: TokenBatch, tokens: int, seed: int = 7) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return found(getattr(model, "module", model), add_gradients(model, batch, CPU, TrainConfig(chunk_tokens=tokens)))


@pytest.mark.parametrize("tokens", [SOME, MANY])
def test_dropout_is_the_same_in_both_passes(
    taught: BatchSource, initial: EncoderConfig, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, model = views(taught, "both").batch(0), build(initial, LOSS["all"], dropout=0.3)
    wanted = with_one_graph(model, batch, tokens)
    model.zero_grad()
    assert_same(cached(model, batch, tokens), wanted)
    model.zero_grad()
    with pytest.raises(AssertionError, match="close"):
        assert_same(cached(model, batch, tokens, seed=8), wanted)
    if tokens != MANY:  # other dropout in the second pass would be noticed
        monkeypatch.setattr(grad_cache, "_encode", lambda m, chunk, bf16: m(chunk.ids, chunk.lengths))
        model.zero_grad()
        with pytest.raises(AssertionError, match="close"):
            assert_same(cached(model, batch, tokens), wanted)


def sizes(source: BatchSource) -> tuple[int, ...]:
    """`TOKENS`, with a size at which two ranks do not have as many chunks as each other."""
    chunks = {n: [len(grad_cache._chunks(source.batch(0, r, 2), n, CPU)) for r in range(2)] for n in range(60, 160, 5)}
    return (ONE, SOME, next(n for n, (first, second) in chunks.items() if first != second), MANY)


def gradients_on_ranks(initial: EncoderConfig, source: BatchSource, dropout: float, folder: str) -> None:
    """On each rank: the gradients by DDP in chunks; with dropout beside their mean over ranks, each in one graph."""
    batch = source.batch(0, rank(), world_size())
    wrapped = DistributedDataParallel(build(initial, LOSS["all"], dropout))
    for tokens in sizes(source):
        wrapped.zero_grad()
        ours = cached(wrapped, batch, tokens, seed=7)
        torch.save(ours, f"{folder}/{tokens}-{rank()}.pt")
        if dropout:
            plain = build(initial, LOSS["all"], dropout)
            wanted = with_one_graph(plain, batch, tokens)
            for name, value in wanted.items():
                if not name.startswith("term "):
                    dist.all_reduce(value)
                    value /= world_size()
            assert_same(ours, wanted)


@pytest.mark.parametrize(("kind", "dropout"), [("cross", 0.0), ("both", 0.0), ("cross", 0.3)])
def test_two_ranks_are_one_process(
    taught: BatchSource,
    initial: EncoderConfig,
    on_ranks: Callable[..., None],
    tmp_path: Path,
    kind: str,
    dropout: float,
) -> None:
    source = views(taught, kind)
    on_ranks(2, gradients_on_ranks, initial, source, dropout, str(tmp_path))
    if not dropout:
        model = build(initial, LOSS["all"])
        wanted = found(model, add_gradients(model, source.batch(0), CPU, TrainConfig()))
        for tokens in sizes(source):
            parts = [torch.load(tmp_path / f"{tokens}-{own}.pt", weights_only=True) for own in range(2)]
            ours = {k: torch.cat([p[k] for p in parts]) if k.startswith("term ") else parts[0][k] for k in parts[0]}
            assert_same(ours, wanted)


VIEWS = {
    "sampling": {"mono": 0.5, "cross": 0.0, "both": 0.5, "translations": Translations(passage=2, query=1)},
    "loss": {"multilingual": Multilingual(weight=1), "learn_temperature": True},
}


def test_a_run_in_chunks_goes_on_bit_for_bit(make_run: Callable[..., Prepared], tmp_path: Path) -> None:
    """With dropout and all views; another size of chunk may continue a run."""

    def run(name: str, tokens: int | None) -> Prepared:
        train = {"steps": 4, "chunk_tokens": tokens}
        return make_run(tmp_path / name, encoder={"dropout": 0.2}, train=train, **VIEWS)

    once, twice = run("once", SOME), run("twice", SOME)
    train_here(once)
    (twice.job.output / STOP).touch()
    assert train_here(twice)[0]["step"] == 1
    (twice.job.output / STOP).unlink()
    train_here(twice)
    ours, wanted = (
        load_file(one.job.output / "checkpoints" / "step-00000004" / "model.safetensors") for one in (twice, once)
    )
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)
    ours, wanted = (steady(read_lines(one.job.output / "history.jsonl")) for one in (twice, once))
    assert ours == wanted
    assert {line["kind"] for line in ours} == {"mono", "both"}
    assert run("other", None).job.identity == once.job.identity


def test_a_chunk_needs_a_token() -> None:
    with pytest.raises(ValueError, match=r"train\.chunk_tokens is 0: it must be at least 1"):
        TrainConfig(chunk_tokens=0)


def test_bfloat16_in_chunks(small_run: Prepared) -> None:
    """Forward passes are in bfloat16, scores and loss in float32: these differ from bfloat16's numbers."""
    model, batch = DualEncoder(Encoder.load(small_run.initial), LossConfig()), small_run.job.source.batch(0)
    plain = add_gradients(model, batch, CPU, TrainConfig())["info_nce"]
    for tokens in (None, SOME):
        half = add_gradients(model, batch, CPU, TrainConfig(bf16=True, chunk_tokens=tokens))["info_nce"]
        assert half.dtype == torch.float32
        assert not torch.equal(half, plain)
        torch.testing.assert_close(half, plain, rtol=0.05, atol=0.05)
        assert not torch.equal(half, half.bfloat16().float())


PEAK = """
import sys
from test_grad_cache import peak_of
print(peak_of(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) or None))
"""


def random_batch(size: int) -> TokenBatch:
    """Pairs of texts of 40 tokens."""
    rng = np.random.default_rng(0)
    return TokenBatch(
        step=0,
        rank=0,
        kind="mono",
        views={"query": 1, "positive": 1, "negative": 0},
        ids=rng.integers(5, 300, 80 * size).astype(np.int32),
        lengths=np.full(2 * size, 40, dtype=np.int32),
        passage_group=np.arange(size),
        language=np.zeros(2 * size, dtype=np.int16),
        example=np.zeros((size, 3), dtype=np.uint64),
    )


def peak_of(encoder: str, size: int, tokens: int | None) -> float:
    """MB by which the peak of resident memory of this process grows in a step of `size` pairs."""
    torch.set_num_threads(1)
    model = DualEncoder(Encoder.load(encoder).float(), LossConfig()).train()
    config = TrainConfig(chunk_tokens=tokens)
    add_gradients(model, random_batch(8), CPU, config)  # what the first step loads
    batch, before = random_batch(size), high_water()
    add_gradients(model, batch, CPU, config)
    return high_water() - before


def high_water() -> float:
    """Peak resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


@pytest.mark.slow
def test_memory_follows_from_the_chunk(small_run: Prepared) -> None:
    """With four times as many pairs. A matrix of all their scores alone would take 67 MB."""
    peaks = {}
    for size, tokens in ((1024, 0), (1024, 4000), (4096, 4000)):
        command = [sys.executable, "-c", PEAK, small_run.initial.name, str(size), str(tokens)]
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks[size, tokens] = float(done.stdout.splitlines()[-1])
    assert peaks[1024, 4000] < 0.5 * peaks[1024, 0], peaks
    assert peaks[4096, 4000] < 0.5 * peaks[1024, 0], peaks
