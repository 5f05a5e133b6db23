"""What a GPU does with a training step, in parts of at most four minutes: no Ray, no download, no data.

    python tests/scripts/gpu.py [--parts card equal steps cached encoding profile] [--out DIR] [--device cpu --small]

The model has XLM-R-base's config and random weights; texts are random words, as long as those of XQuAD-R are in tokens
(`xquad_r_lengths.json`; `--make_lengths DIR` counts them from the published files, with a byte-level BPE of 16,000
tokens trained on them). Steps are whole: forward, loss, backward, clipping, exchange, AdamW; in bfloat16, systems in
turns, medians. Written to DIR: a table and its numbers for each part. A check that fails makes the exit code 1.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybridir.batches.stream import TokenBatch
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.head import Head
from hybridir.runs.backend import quiet_libraries
from hybridir.training.agreement import exchange
from hybridir.training.config import TrainConfig
from hybridir.training.grad_cache import add_gradients
from hybridir.training.objective import DualEncoder, LossConfig

LENGTHS = Path(__file__).with_name("xquad_r_lengths.json")
FIRST = 5
"""Token ids below are special."""


@dataclass
class Machine:
    """What all parts share: device, sizes, the folder of the model, and the results."""

    device: torch.device
    small: bool
    model: str
    out: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def bf16(self) -> bool:
        return self.device.type == "cuda"

    @property
    def repeats(self) -> int:
        return 3 if self.small else 20

    def batches(self) -> tuple[int, int, int]:
        """A usual batch, a large one, and one for GradCache."""
        return (8, 24, 96) if self.small else (100, 1000, 8192)

    def add(self, part: str, what: str, value: float, unit: str, bar: str = "") -> None:
        self.rows.append({"part": part, "what": what, "value": value, "unit": unit, "bar": bar})
        print(f"{part:9} {what:58} {value:12.5g} {unit} {bar}", flush=True)

    def check(self, part: str, what: str, value: float, least: float | None = None, most: float | None = None) -> None:
        """Adds a value; if it is outside of its bounds, or NaN, the script fails."""
        right = (least is None or value >= least) and (most is None or value <= most)
        bounds = " and ".join(f"{sign} {x:g}" for sign, x in ((">=", least), ("<=", most)) if x is not None)
        if not right:
            self.failed.append(f"{part}: {what} is {value:g}, not {bounds}")
        self.add(part, what, value, "", f"{bounds}: {'ok' if right else 'FAILED'}")

    def seconds(self, work: Callable[[], object]) -> float:
        """Of one call, by events on a GPU."""
        if self.device.type == "cpu":
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        work()
        after.record()
        torch.cuda.synchronize()
        return before.elapsed_time(after) / 1000

    def in_turns(self, works: dict[str, Callable[[], object]]) -> dict[str, float]:
        """Median seconds of each, after two calls to warm up."""
        found: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(self.repeats + 2):
            for name, work in works.items():
                found[name].append(self.seconds(work))
        return {name: statistics.median(values[2:]) for name, values in found.items()}


def lengths_of(size: int, seed: int = 0) -> np.ndarray:
    """Token counts of `size` queries, then of as many passages, drawn from XQuAD-R's."""
    rng, counts = np.random.default_rng(seed), json.loads(LENGTHS.read_text(encoding="utf-8"))
    columns = [np.repeat([int(n) for n in one], list(one.values())) for one in (counts["query"], counts["passage"])]
    return np.concatenate([rng.choice(column, size) for column in columns]).astype(np.int32)


def batch_of(machine: Machine, size: int) -> TokenBatch:
    lengths = lengths_of(size)
    vocab = json.loads(Path(machine.model, "config.json").read_text(encoding="utf-8"))["vocab_size"]
    return TokenBatch(
        step=0,
        rank=0,
        kind="mixed",
        views={"query": 1, "positive": 1, "negative": 0},
        ids=np.random.default_rng(1).integers(FIRST, vocab, lengths.sum()).astype(np.int32),
        lengths=lengths,
        passage_group=np.arange(size),
        language=np.zeros(2 * size, dtype=np.int16),
        example=np.zeros((size, 3), dtype=np.uint64),
    )


def save_model(folder: Path, small: bool) -> None:
    """XLM-R-base with random weights, and a tokenizer whose words are its tokens."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    sizes: dict[str, Any] = {"vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1}
    if small:
        sizes |= {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"intermediate_size": 128}
    config = XLMRobertaConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = names + [f"w{n}" for n in range(len(names), config.vocab_size)]
    table = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    table.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=table, model_max_length=512, **special)
    torch.manual_seed(0)
    about = EncoderConfig(query_prefix="", passage_prefix="", max_query_length=512, max_passage_length=512)
    Encoder(XLMRobertaModel(config, add_pooling_layer=False), Head("mean"), tokenizer, about).save(folder)


def load(machine: Machine, padded: bool = False, **changes: Any) -> DualEncoder:
    encoder = Encoder.load(EncoderConfig(name=machine.model, **changes))
    if padded:
        encoder.backbone.set_attn_implementation("sdpa")  # type: ignore[operator]
    return DualEncoder(encoder, LossConfig()).to(machine.device).train()


# Parts


def card(machine: Machine) -> None:
    """What the card can do: copies and matrix products."""
    name = torch.cuda.get_device_name() if machine.device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {sys.version.split()[0]}")
    source = torch.ones(2**20 if machine.small else 2**28, device=machine.device)
    target = torch.empty_like(source)
    seconds = machine.in_turns({"copy": lambda: target.copy_(source)})["copy"]
    machine.add("card", "bandwidth of a copy, read and write", 2 * source.nbytes / seconds / 1e9, "GB/s")
    machine.add("card", "matrix products", matmul_rate(machine) / 1e12, "TFLOP/s")


def matmul_rate(machine: Machine) -> float:
    """FLOP/s of a large matrix product in the precision of the steps."""
    n = 256 if machine.small else 8192
    dtype = torch.bfloat16 if machine.bf16 else torch.float32
    a, b = (torch.randn(n, n, device=machine.device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / machine.in_turns({"matmul": lambda: a @ b})["matmul"]


def gradients(model: DualEncoder, batch: TokenBatch, machine: Machine, **train: Any) -> tuple[Tensor, Tensor]:
    """Losses [b], and all gradients as one vector, in float32 on the CPU."""
    model.zero_grad()
    terms = add_gradients(model, batch, machine.device, TrainConfig(**train))
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return terms["info_nce"].float().cpu(), flat.float().cpu()


def equal(machine: Machine) -> None:
    """Losses and gradients against one padded forward pass in float32, and against themselves."""
    batch = batch_of(machine, machine.batches()[0])
    model = load(machine)
    wanted_loss, wanted = plain_step(model, batch, machine.device)
    bound = 0.1 if machine.bf16 else 1e-4  # bfloat16 has 8 bits: a rounding of .4 % for each of some dozens of layers
    ways: dict[str, dict[str, Any]] = {"at once": {}, "in chunks": {"chunk_tokens": int(batch.lengths.sum()) // 3}}
    for name, way in ways.items():
        loss, gradient = gradients(model, batch, machine, bf16=machine.bf16, **way)
        machine.check("equal", f"loss {name}, error", float((loss - wanted_loss).abs().max()), most=bound)
        error = float((gradient - wanted).norm() / wanted.norm())
        machine.check("equal", f"gradient {name}, relative error", error, most=bound)
        again_loss, again = gradients(model, batch, machine, bf16=machine.bf16, **way)
        machine.check("equal", f"loss {name}, twice, error", float((again_loss - loss).abs().max()), most=0.0)
        # Kernels may add up in another order on a GPU; on a CPU they do not.
        error = float((again - gradient).norm() / gradient.norm())
        machine.check("equal", f"gradient {name}, twice, relative error", error, most=1e-2 if machine.bf16 else 0.0)
    random = load(machine, dropout=0.1)
    seeds = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        seeds.append(gradients(random, batch, machine, bf16=machine.bf16)[0])
    machine.check("equal", "dropout: losses of two seeds differ by", float((seeds[2] - seeds[0]).norm()), least=1e-3)
    machine.check("equal", "dropout: losses of one seed differ by", float((seeds[1] - seeds[0]).norm()), most=0.0)
    for name, module in random.named_modules():
        if isinstance(module, nn.Dropout) and not name.endswith(".self.dropout"):
            module.p = 0.0
    alone = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        alone.append(gradients(random, batch, machine, bf16=machine.bf16)[0])
    machine.check("equal", "dropout in attention alone: differ by", float((alone[1] - alone[0]).norm()), least=1e-4)
    if machine.device.type == "cuda":
        machine.check("equal", "copies of a step that the host waits for", waits(machine, batch), least=1, most=1)


def plain_step(model: DualEncoder, batch: TokenBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Losses and gradients with nothing of this project but the weights: one padded block, mean, cosine, float32."""
    model.zero_grad()
    backbone: Any = model.encoder.backbone
    used, size = backbone.config._attn_implementation, len(batch.example)
    backbone.set_attn_implementation("eager")
    texts = [torch.from_numpy(text.astype(np.int64)) for text in np.split(batch.ids, np.cumsum(batch.lengths)[:-1])]
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=1).to(device)
    mask = (torch.arange(ids.shape[1]) < torch.from_numpy(batch.lengths)[:, None]).to(device)
    hidden = backbone(input_ids=ids, attention_mask=mask.long()).last_hidden_state * mask[..., None]
    embeddings = nn.functional.normalize(hidden.sum(1) / mask.sum(1, keepdim=True), dim=-1)
    scores = embeddings[:size] @ embeddings[size:].T / LossConfig().temperature
    losses = nn.functional.cross_entropy(scores, torch.arange(size, device=device), reduction="none")
    losses.mean().backward()
    backbone.set_attn_implementation(used)
    flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return losses.detach().cpu(), flat.cpu()


def waits(machine: Machine, batch: TokenBatch) -> int:
    """How often the host waits for the device in `exchange`."""
    losses = torch.ones(len(batch.example), device=machine.device)
    norm = losses.norm()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        exchange(losses, {"a": losses, "b": losses}, norm, False, batch)
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in seen)


@dataclass(frozen=True)
class Way:
    """A way to do a whole step."""

    padded: bool = False
    fused: bool = True
    early: bool = True  # whether items are hashed before the host waits for the device
    compiled: bool = False
    chunk_tokens: int | None = None


WAYS = {
    "padded chunks": Way(padded=True, fused=False, early=False),
    "without padding": Way(fused=False, early=False),
    "and fused AdamW": Way(early=False),
    "and the hash before the wait": Way(),
    "and compiled layers": Way(compiled=True),
}
"""Each with one thing more; the fourth is what a run does."""
AS_TRAINED = "and the hash before the wait"


def our_step(machine: Machine, batch: TokenBatch, way: Way) -> Callable[[], float]:
    model = load(machine, way.padded)
    if way.compiled:
        backbone: Any = model.encoder.backbone
        for layer in backbone.encoder.layer:
            layer.compile(dynamic=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=way.fused)
    config = TrainConfig(bf16=machine.bf16, chunk_tokens=way.chunk_tokens)

    def step() -> float:
        terms = add_gradients(model, batch, machine.device, config)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not way.early:
            norm.item()
        shared = exchange(terms["info_nce"], terms, norm, False, batch)
        optimizer.step()
        optimizer.zero_grad()
        return shared.loss

    return step


def their_step(machine: Machine, batch: TokenBatch) -> Callable[[], float]:
    """The same with sentence-transformers, on texts tokenised and padded beforehand."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(machine.model, device=str(machine.device)).train()
    loss = MultipleNegativesRankingLoss(model, scale=1 / LossConfig().temperature)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    texts = [torch.from_numpy(text.astype(np.int64)) for text in np.split(batch.ids, np.cumsum(batch.lengths)[:-1])]
    features = []
    for part in (texts[: len(batch.example)], texts[len(batch.example) :]):
        ids = nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=1)
        mask = torch.arange(ids.shape[1]) < torch.tensor([len(text) for text in part])[:, None]
        features.append({"input_ids": ids.to(machine.device), "attention_mask": mask.long().to(machine.device)})

    def step() -> float:
        with torch.autocast(machine.device.type, dtype=torch.bfloat16, enabled=machine.bf16):
            value = loss([dict(one) for one in features], None)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return value.item()

    return step


def flop(machine: Machine, batch: TokenBatch) -> float:
    """Of forward and backward passes over real tokens: 6 a weight and token, 12 L d a pair of tokens of a text."""
    config = json.loads(Path(machine.model, "config.json").read_text(encoding="utf-8"))
    width, layers = config["hidden_size"], config["num_hidden_layers"]
    weights = layers * width * (4 * width + 2 * config["intermediate_size"])
    lengths = batch.lengths.astype(np.float64)
    return float(6 * weights * lengths.sum() + 12 * layers * width * (lengths**2).sum())


def steps(machine: Machine) -> None:
    """Whole steps, one thing more in each."""
    rate, large = matmul_rate(machine), not machine.small
    for size, least in zip(machine.batches()[:2], (0.45, 0.55), strict=True):
        batch = batch_of(machine, size)
        works: dict[str, Callable[[], float]] = {name: our_step(machine, batch, way) for name, way in WAYS.items()}
        works["sentence-transformers"] = their_step(machine, batch)
        if size == machine.batches()[1] and large:
            del works["sentence-transformers"]  # its activations take more than the card
        losses = {}
        for name, work in works.items():
            start = time.perf_counter()
            losses[name] = work()
            machine.add("steps", f"batch {size}, {name}: first step", time.perf_counter() - start, "s")
        spread = max(losses.values()) - min(losses.values())
        machine.check("steps", f"batch {size}: losses of the first step, spread", spread, most=0.1)
        seconds = machine.in_turns(works)
        for name, value in seconds.items():
            machine.add("steps", f"batch {size}, {name}", value * 1000, "ms")
            machine.add("steps", f"batch {size}, {name}: tokens", batch.lengths.sum() / value, "1/s")
            machine.add("steps", f"batch {size}, {name}: of the matmul rate", flop(machine, batch) / value / rate, "")
        if large:
            share = flop(machine, batch) / seconds[AS_TRAINED] / rate
            machine.check("steps", f"batch {size}: of the matmul rate", share, least=least)
            if "sentence-transformers" in seconds:
                ratio = seconds["sentence-transformers"] / seconds[AS_TRAINED]
                machine.check("steps", f"batch {size}: times sentence-transformers", ratio, least=3.0)


def cached(machine: Machine) -> None:
    """GradCache: peak memory follows from the chunk."""
    tokens = 500 if machine.small else 32768
    peaks = []
    for size in machine.batches()[1:]:
        batch = batch_of(machine, size)
        work = our_step(machine, batch, replace(WAYS[AS_TRAINED], chunk_tokens=tokens))
        work()
        if machine.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = machine.seconds(work)
        peaks.append(torch.cuda.max_memory_allocated() / 1e9 if machine.device.type == "cuda" else high_water())
        machine.add("cached", f"batch {size}, chunks of {tokens} tokens", seconds * 1000, "ms")
        machine.add("cached", f"batch {size}, chunks of {tokens} tokens: peak", peaks[-1], "GB")
        del work
    machine.check("cached", "peak of the largest batch, of that of the one before", peaks[1] / peaks[0], most=1.2)


def high_water() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1e6


def encoding(machine: Machine) -> None:
    """Passages a second, tokenisation included, against sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    rng, count = np.random.default_rng(2), 200 if machine.small else 5000
    vocab = json.loads(Path(machine.model, "config.json").read_text(encoding="utf-8"))["vocab_size"]
    lengths = lengths_of(count)[count:]
    texts = [" ".join(f"w{n}" for n in rng.integers(FIRST, vocab, length)) for length in lengths]
    ours = Encoder.load(EncoderConfig(name=machine.model)).to(machine.device)
    theirs = SentenceTransformer(machine.model, device=str(machine.device))
    found: dict[str, Any] = {}

    def embed(name: str, work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            with torch.autocast(machine.device.type, dtype=torch.bfloat16, enabled=machine.bf16):
                found[name] = np.asarray(work(), dtype=np.float64)

        return run

    options: dict[str, Any] = {"show_progress_bar": False, "normalize_embeddings": True}
    works = {"hybridir": embed("hybridir", lambda: ours.encode(texts, "passage"))}
    for size in (32, 256):
        name = f"sentence-transformers, batch size {size}"
        works[name] = embed(name, lambda size=size: theirs.encode(texts, batch_size=size, **options))  # type: ignore[misc]
    machine_of_few = replace(machine, small=True)  # three calls of each
    seconds = machine_of_few.in_turns(works)
    for name, value in seconds.items():
        machine.add("encoding", name, count / value, "1/s")
        cosine = float((found[name] * found["hybridir"]).sum(1).min())
        machine.check("encoding", f"{name}: lowest cosine with hybridir's", cosine, least=0.99)
    if not machine.small:
        best = min(value for name, value in seconds.items() if name != "hybridir")
        machine.check("encoding", "times sentence-transformers", best / seconds["hybridir"], least=3.0)


def profile(machine: Machine) -> None:
    """Where the time of a step goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    work = our_step(machine, batch_of(machine, machine.batches()[0]), WAYS[AS_TRAINED])
    work()
    cuda = machine.device.type == "cuda"
    with watch(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as seen:
        work()
    table = seen.key_averages().table(sort_by="self_cuda_time_total" if cuda else "self_cpu_time_total", row_limit=20)
    (machine.out / "profile.txt").write_text(table, encoding="utf-8")
    print(table)
    machine.check("profile", "kinds of operation in a step", len(seen.key_averages()), least=20)


PARTS = {part.__name__: part for part in (card, equal, steps, cached, encoding, profile)}


def make_lengths(folder: str) -> None:
    """Counts the tokens of the published XQuAD-R files, and writes `LENGTHS`."""
    from step import tokenised  # type: ignore[import-not-found]

    counts = {}
    for side, lengths in tokenised(folder, 16_000).items():
        values, numbers = np.unique(lengths, return_counts=True)
        counts[side] = dict(zip(map(str, values.tolist()), numbers.tolist(), strict=True))
    LENGTHS.write_text(json.dumps(counts) + "\n", encoding="utf-8")


@contextlib.contextmanager
def limited(machine: Machine, part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    machine.check(part, "seconds of this part", time.perf_counter() - start, most=240)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", default=os.environ.get("OUT", "."))
    parser.add_argument("--make_lengths")
    options = parser.parse_args()
    if options.make_lengths:
        make_lengths(options.make_lengths)
        return
    quiet_libraries()
    with TemporaryDirectory() as work:
        save_model(Path(work, "model"), options.small)
        out = Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        machine = Machine(torch.device(options.device), options.small, str(Path(work, "model")), out)
        for part in options.parts:
            with limited(machine, part):
                PARTS[part](machine)
            rows = [row for row in machine.rows if row["part"] == part]
            (out / f"gpu-{part}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
            lines = [f"| {row['what']} | {row['value']:.5g} {row['unit']} | {row['bar']} |" for row in rows]
            table = ["| what | value | bar |", "| --- | --- | --- |", *lines]
            (out / f"gpu-{part}.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    if machine.failed:
        raise SystemExit("failed:\n  " + "\n  ".join(machine.failed))


if __name__ == "__main__":
    main()
