"""Two gloo ranks against one process: gathers, and the gradients of every parameter, with traps for wrong ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers import corpus_of, switched_on, with_teacher
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from hybridir.batches.sampling import Noise, Sampling, Translations
from hybridir.batches.stream import BatchSource
from hybridir.batches.token_cache import build_cache
from hybridir.data.records import Pair, Passage
from hybridir.model import distributed
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.lora import Adapted, LoraConfig, inject
from hybridir.runs.prepare import Prepared
from hybridir.training import objective as dual_encoder
from hybridir.training.losses.distill import Distill
from hybridir.training.losses.matryoshka import Matryoshka
from hybridir.training.objective import DualEncoder, LossConfig, batch_loss

CPU = torch.device("cpu")
LEARNED = LossConfig(learn_temperature=True)
TERMS = switched_on(lambda n: 0.5 + n)
CUT = TERMS | {"matryoshka": Matryoshka(dimensions=(16, 5)), "distill": Distill(weight=1, teacher="x", match="margins")}
LOSS = {
    name: LossConfig(learn_temperature=True, **terms)
    for name, terms in {"whole": TERMS, "cut": CUT, "lora": {}}.items()
}
RIGHT, NO_GRADIENT, TIMES_WORLD_SIZE = "right", "no gradient", "times world size"


def gradients_on_ranks(initial: EncoderConfig, source: BatchSource, folder: str) -> None:
    """On each rank: DDP's gradients of one batch, right and wrong in two ways; rank 0 writes them."""
    check_gathers()
    batch = source.batch(0, distributed.rank(), distributed.world_size())
    written = {}
    for way in (RIGHT, NO_GRADIENT, TIMES_WORLD_SIZE):
        dual_encoder.gather_with_grad = distributed.gather if way == NO_GRADIENT else distributed.gather_with_grad
        model = DualEncoder(Encoder.load(initial), LEARNED)
        wrapped = DistributedDataParallel(model)  # must live until the backward pass is done
        loss = batch_loss(wrapped, batch, CPU).mean()
        (loss * (distributed.world_size() if way == TIMES_WORLD_SIZE else 1)).backward()
        written[way] = {name: parameter.grad for name, parameter in model.named_parameters()}
    if distributed.rank() == 0:
        torch.save(written, f"{folder}/gradients.pt")


def check_gathers() -> None:
    """Checks on each rank what the functions of `distributed` return."""
    rank, count = distributed.rank(), distributed.world_size()
    assert (rank, count) == (dist.get_rank(), 2)
    mine = torch.tensor([[10.0 * rank, 1.0]])
    assert distributed.gather(mine).tolist() == [[0.0, 1.0], [10.0, 1.0]]
    assert distributed.broadcast_object({"from": rank}) == {"from": 0}
    # The loss of rank r is (r + 1) * sum over s of (s + 1) * x_s: x_s has the gradient (s + 1) * (1 + 2) over both.
    x = torch.ones(1, requires_grad=True)
    ((rank + 1) * distributed.gather_with_grad(x) * torch.tensor([1.0, 2.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0 * (rank + 1)]
    # What autograd hands over may belong to others too: it is not written into.
    y = torch.ones(1, requires_grad=True)
    shared = torch.ones(2)
    distributed.gather_with_grad(y).backward(shared)
    assert shared.tolist() == [1.0, 1.0]
    assert y.grad is not None
    assert y.grad.tolist() == [2.0]
    distributed.barrier()


@pytest.fixture(scope="module")
def initial(small_run: Prepared, float64: Path) -> EncoderConfig:
    return replace(small_run.initial, name=str(float64))


@pytest.fixture(scope="module")
def two_ranks(
    small_run: Prepared, initial: EncoderConfig, on_ranks: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("gradients")
    on_ranks(2, gradients_on_ranks, initial, small_run.job.source, str(folder))
    return torch.load(Path(folder) / "gradients.pt", weights_only=True)


@pytest.fixture(scope="module")
def one_process(small_run: Prepared, initial: EncoderConfig) -> dict[str, Tensor]:
    model = DualEncoder(Encoder.load(initial), LEARNED)
    batch_loss(model, small_run.job.source.batch(0), CPU).mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same(ours: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Equal to 1e-9; what is far below the largest gradient of all (the bias of keys has none) to 1e-11 of that."""
    assert ours.keys() == wanted.keys()
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name in wanted:
        torch.testing.assert_close(
            ours[name], wanted[name], rtol=1e-9, atol=1e-11 * largest, msg=lambda m, n=name: n + m
        )


def test_gradients_of_two_ranks_are_those_of_one_process(
    two_ranks: dict[str, dict[str, Tensor]], one_process: dict[str, Tensor]
) -> None:
    assert "log_temperature" in one_process
    assert len(one_process) > 15
    assert_same(two_ranks[RIGHT], one_process)


@pytest.mark.parametrize("way", [NO_GRADIENT, TIMES_WORLD_SIZE])
def test_wrong_gradients_are_noticed(
    two_ranks: dict[str, dict[str, Tensor]], one_process: dict[str, Tensor], way: str
) -> None:
    with pytest.raises(AssertionError):
        assert_same(two_ranks[way], one_process)


def test_size_of_the_errors(two_ranks: dict[str, dict[str, Tensor]], one_process: dict[str, Tensor]) -> None:
    """A factor of the world size is exactly 2; without a gradient through the gather it is wrong by per cents."""

    def norm(gradients: dict[str, Tensor], minus: dict[str, Tensor] | None = None) -> float:
        parts = [g - (minus[name] if minus else 0) for name, g in gradients.items()]
        return float(torch.cat([part.flatten() for part in parts]).norm())

    size = norm(one_process)
    assert norm(two_ranks[RIGHT], one_process) / size < 1e-9
    assert norm(two_ranks[TIMES_WORLD_SIZE], one_process) / size == pytest.approx(1, rel=1e-9)
    assert norm(two_ranks[NO_GRADIENT], one_process) / size > 0.05


def loss_on_ranks(initial: EncoderConfig, source: BatchSource, folder: str) -> None:
    """Writes the losses of each rank's items in one batch."""
    batch = source.batch(0, distributed.rank(), distributed.world_size())
    losses = batch_loss(DualEncoder(Encoder.load(initial), LossConfig()), batch, CPU)
    torch.save(losses.detach(), f"{folder}/{distributed.rank()}.pt")


def test_two_pools_on_two_ranks(
    small_run: Prepared, initial: EncoderConfig, on_ranks: Callable[..., None], tmp_path: Path
) -> None:
    """A batch of both kinds: the losses of its halves, computed as batches of their own."""
    sampling = Sampling(mono=0, cross=0, both=1, languages=("de", "en"))
    source = replace(small_run.job.source, sampling=sampling)
    on_ranks(2, loss_on_ranks, initial, source, str(tmp_path))
    model = DualEncoder(Encoder.load(initial), LossConfig())
    for rank in range(2):
        half = replace(source.batch(0, rank, 2), kind="mono", rank=0)
        expected = batch_loss(model, half, CPU).detach()
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), expected)


def total_on_ranks(initial: EncoderConfig, source: BatchSource, folder: str) -> None:
    """Rank 0 writes DDP's gradients, by the loss."""
    found = {name: all_gradients(initial, name, source, DistributedDataParallel) for name in LOSS}
    if distributed.rank() == 0:
        torch.save(found, f"{folder}/gradients.pt")


def all_gradients(
    initial: EncoderConfig, name: str, source: BatchSource, wrap: Callable[[DualEncoder], torch.nn.Module]
) -> dict[str, Tensor]:
    """The gradients of a loss on one batch of this rank; with LoRA, those of its matrices."""
    encoder = Encoder.load(initial)
    if name == "lora":
        inject(encoder, LoraConfig(rank=3), seed=5)
        for one in encoder.modules():
            if isinstance(one, Adapted):
                torch.nn.init.normal_(one.up, generator=torch.Generator().manual_seed(6))
    model = DualEncoder(encoder, LOSS[name])
    wrapped = wrap(model)
    batch_loss(wrapped, source.batch(0, distributed.rank(), distributed.world_size()), CPU).mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def every_view(small_run: Prepared, tmp_path_factory: pytest.TempPathFactory) -> BatchSource:
    """Batches with every view that a term can need. The hard negatives of a pair are the next pairs' passages."""
    rows = [small_run.corpus.pair(row) for row in range(small_run.corpus.n_pairs)]
    by_language: dict[str, list[Passage]] = {}
    records = []
    for row in rows:
        others = by_language.setdefault(row["language"], [])
        passage = Passage(language=row["language"], **row["passage"])
        shared = {name: row[name] for name in ("group_id", "language", "query")}
        records += [Pair(**shared, passage=passage, negatives=tuple(others[-2:]))]
        others.append(passage)
    corpus = corpus_of(records, tmp_path_factory.mktemp("views"))
    assert small_run.job.source.token_job
    job = replace(small_run.job.source.token_job, corpus=str(corpus.directory))
    source = BatchSource(
        corpus=job.corpus,
        tokens=str(build_cache(job)),
        sampling=Sampling(
            negatives=2, translations=Translations(passage=3, query=2), noise=Noise(probability=0.5, severity=0.2)
        ),
        batch_size=8,
        seed=3,
        token_job=job,
        noisy_query=True,
    )
    return with_teacher(source, tmp_path_factory.mktemp("teacher"))


def test_every_view_that_a_term_needs_is_there(every_view: BatchSource) -> None:
    assert {"query", "positive", *LOSS["whole"].needs} <= every_view.batch(0).views.keys()
    LOSS["whole"].check_views(every_view.sampling)


@pytest.mark.parametrize("kind", ["cross", "both"])
def test_gradients_of_all_terms(
    every_view: BatchSource, initial: EncoderConfig, on_ranks: Callable[..., None], tmp_path: Path, kind: str
) -> None:
    """Of three translations of a passage one is never there: the second rank's texts are fewer than its places."""
    weights = {"mono": 0.0, "cross": 0.0, kind: 1.0}
    source = replace(every_view, sampling=replace(every_view.sampling, **weights))
    on_ranks(2, total_on_ranks, initial, source, str(tmp_path))
    ours = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for name in LOSS:
        assert_same(ours[name], all_gradients(initial, name, source, lambda model: model))
    assert len(ours["whole"]) > 15
    assert {name.rpartition(".")[2] for name in ours["lora"]} == {"down", "up", "log_temperature"}


def test_without_a_group_there_is_one_rank() -> None:
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    tensor = torch.ones(2, requires_grad=True)
    assert distributed.gather(tensor) is tensor
    assert distributed.gather_with_grad(tensor) is tensor
    assert distributed.broadcast_object("x") == "x"
    distributed.barrier()
