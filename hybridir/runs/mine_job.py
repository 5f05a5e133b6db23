"""Mining hard negatives: pairs in any format and an index become pairs with negatives, which training reads."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.data.config import DataConfig
from hybridir.data.corpus import Corpus
from hybridir.data.records import PARTS
from hybridir.data.sources import joined_licenses, licenses
from hybridir.data.write import WRITERS
from hybridir.model.config import EncoderConfig
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.dot import pair_scores
from hybridir.retrieval.mining import Asked, Members, MiningRules, find_members, mine
from hybridir.retrieval.sharded import Means
from hybridir.retrieval.shards import MANIFEST, Index
from hybridir.retrieval.systems import Encode
from hybridir.runs.backend import Backend, quiet_libraries
from hybridir.runs.corpus import cache_folder, check_rejected, read_corpus
from hybridir.runs.folder import Kind, begin_folder, opened
from hybridir.runs.index_job import way_of
from hybridir.runs.recipe import MAY_CHANGE, ScalingConfig
from hybridir.runs.search_job import open_with_encoder
from hybridir.runtime.durable import replace_text, replaced
from hybridir.runtime.progress import say, watch
from hybridir.runtime.tables import Grid

MINING = Kind(
    name="hard negatives",
    job="jobs/mine.py",
    may_change=MAY_CHANGE | {"index", "model", "data.path", "data.max_rejected", "retrieval.memory", "rounds"},
)
_READ = ("source", "group_id", "language", "query", "passage", "domain")
_FULL, _NONE = "with all", "with none"


@dataclass(frozen=True, kw_only=True)
class Mining:
    """The recipe of hard negatives.

    Args:
        data: the pairs. Negatives that they have already are replaced.
        index: folder of the index that negatives are taken from, made by jobs/encode.py.
        model: name of the encoder of the index. Omitted: where it was when the index was made.
        rules: which passages are negatives.
        form: format of the pairs that are written, `jsonl` or `parquet`.
        unit: number of pairs that are mined together, in one pass over the index; a killed job loses one at most.
        rounds: how often to mine; after the first, from the same passages encoded by the model that was trained on the
            negatives of the round before.
        training: configuration of that training, a file for jobs/train.py. Its data are replaced by what is mined.
        retrieval: `memory` bounds the memory of the search.
        scaling: workers and devices for encoding.
        output: folder for the pairs. Omitted: outputs/mine-DATE-TIME.
        cache: folder for corpora, shared by jobs. Omitted: `cache` beside the output.
        resume: continue in `output`; what is mined already is kept.
    """

    data: DataConfig = field(default_factory=DataConfig)
    index: str = ""
    model: str = ""
    rules: MiningRules = field(default_factory=MiningRules)
    form: str = "jsonl"
    unit: int = 32_768
    rounds: int = 1
    training: str = ""
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    scaling: ScalingConfig = field(default_factory=lambda: ScalingConfig(num_workers=0))
    output: str = ""
    cache: str = ""
    resume: bool = False

    def __post_init__(self) -> None:
        if self.form not in WRITERS:
            raise ValueError(f"form is {self.form!r}: it must be one of {', '.join(WRITERS)}")
        for name in ("unit", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.rounds > 1 and not self.training:
            raise ValueError(f"rounds is {self.rounds}: name the configuration to train with by --training FILE")


@dataclass(frozen=True)
class _Work:
    """All that decides the result of a unit; `key` changes with it."""

    recipe: Mining
    corpus: Corpus
    index: Index
    members: Members
    encoder: EncoderConfig
    encode: Encode
    means: Means
    key: str


def run_mining(recipe: Mining, backend: Backend) -> Path:
    """Mines all pairs; returns the path of `README.md` in the output folder. A finished one is left as it is."""
    quiet_libraries()
    if not recipe.index:
        raise ValueError("index is empty: name a folder made by jobs/encode.py")
    with opened(recipe, MINING) as recipe:
        output = Path(recipe.output)
        if (output / "results.json").exists():
            say(f"the negatives in {output} are finished: nothing is changed. Name another --output for new ones")
            return output / "README.md"
        index, encoder = open_with_encoder(Path(recipe.index).absolute(), recipe.model)
        begin_folder(recipe, MINING)
        work = _prepare(recipe, index, encoder, backend)
        units = list(_units(work.corpus, recipe.unit))
        waiting = [n for n in range(len(units)) if _counts(work, n) is None]
        say(f"{len(units) - len(waiting)} of {len(units)} units of {recipe.unit:,} pairs are mined")
        for _ in watch("mined", _mined(work, units, waiting), "pairs"):
            pass
        return _finish(work, len(units))


def _prepare(recipe: Mining, index: Index, encoder: EncoderConfig, backend: Backend) -> _Work:
    cache = cache_folder(recipe, Path(recipe.output))
    corpus = read_corpus(replace(recipe.data, validation_share=0.0), cache, backend.read)
    check_rejected(corpus, recipe.data.max_rejected)
    if unknown := {*recipe.rules.count_of} - {*corpus.sources}:
        raise ValueError(f"rules.count_of has {min(unknown)!r}, but the sources are {', '.join(corpus.sources)}")
    if recipe.rules.languages == "same":
        index.together(corpus.languages)
    if had := len(corpus.negative_group):
        say(f"note: the {had:,} negatives that the pairs have are replaced")
    say(f"{corpus.n_pairs:,} pairs, {len(index):,} passages: looking for passages of the same groups")
    distinct, members = find_members(index, corpus)
    if left_out := len(index) - len(distinct):
        say(f"{left_out:,} passages repeat a text in its language, and are left out")
    manifest = (index.folder / MANIFEST).read_bytes()
    key = hashlib.sha256(manifest + f"{corpus.fingerprint} {recipe.unit}".encode()).hexdigest()[:16]
    means = way_of(recipe.retrieval, recipe.scaling, backend).means
    return _Work(recipe, corpus, distinct, members, encoder, backend.encode, means, key)


def _units(corpus: Corpus, size: int) -> Iterator[range]:
    """The chunks of each unit: as many as have at most `size` rows, or one."""
    start, begin = corpus.chunk_start.tolist(), 0
    for end in range(1, len(start)):
        if end == len(start) - 1 or start[end + 1] - start[begin] > size:
            yield range(begin, end)
            begin = end


def _mined(work: _Work, units: Sequence[range], waiting: Sequence[int]) -> Iterator[tuple[None, int, float]]:
    for n, number in enumerate(waiting, start=1):
        yield None, _mine_unit(work, number, units[number]), n / len(waiting)


def _mine_unit(work: _Work, number: int, chunks: range) -> int:
    """Mines the pairs of some chunks, and writes them, and last their counts; returns how many there are."""
    corpus, rules = work.corpus, work.recipe.rules
    start = int(corpus.chunk_start[chunks.start])
    rows = list(chain.from_iterable(corpus.chunk(n).select(_READ).to_pylist() for n in chunks))
    group_N = corpus.group_of_row()[start : start + len(rows)]
    rows = [row for row, group in zip(rows, group_N, strict=True) if group >= 0]
    group_N = group_N[group_N >= 0]
    queries, answers = [row["query"] for row in rows], [row["passage"]["text"] for row in rows]
    query_QD, answer_QD = work.encode(work.encoder, queries, answers if rules.has_margin else [])
    positive_Q = None
    if rules.has_margin:
        answer_QD = answer_QD.astype(work.index.dtype).astype(np.float32)
        positive_Q = pair_scores(query_QD, answer_QD, np.arange(len(rows)), np.arange(len(rows)))
    asked = Asked(
        query_QD=query_QD,
        positive_Q=positive_Q,
        languages=[row["language"] for row in rows],
        group_Q=corpus.passage_group[group_N],
        count_Q=np.array([rules.count_of.get(row["source"], rules.count) for row in rows]),
    )
    found = mine(rules, asked, work.index, work.members, work.means)
    of_pair = {pair: (scores.tolist(), places.tolist()) for pair, scores, places in found}
    places = sorted({place for _, of in of_pair.values() for place in of})
    passages = dict(zip(places, work.index.passages_at(places), strict=True))
    counts: dict[str, Counter[str]] = {}
    with ExitStack() as stack:
        open_part = partial(_open_part, stack, work.recipe, number)
        writers = {part: open_part(PARTS[part]) for part in np.unique(corpus.part_of[group_N]).tolist()}
        for n, row in enumerate(rows):
            scores, of = of_pair[n]
            negatives = [_negative(row, *passages[place]) for place in of]
            row |= {"passage": row["passage"]["text"], "passage_id": row["passage"]["passage_id"]}
            row |= {"passage_group_id": str(asked.group_Q[n]), "negatives": negatives, "negative_scores": scores}
            writers[int(corpus.part_of[group_N[n]])].write(row)
            of_language = counts.setdefault(row["language"], Counter())
            of_language.update({"pairs": 1, "negatives": len(of), _NONE: int(not of)})
            of_language[_FULL] += int(len(of) == asked.count_Q[n])
    content = {"key": work.key, "languages": counts}
    replace_text(_unit_file(work, number), json.dumps(content, indent=1))
    return len(rows)


def _open_part(stack: ExitStack, recipe: Mining, number: int, part: str) -> Any:
    file = Path(recipe.output, part, f"{number:05}.{recipe.form}")
    file.parent.mkdir(exist_ok=True)
    return stack.enter_context(WRITERS[recipe.form](stack.enter_context(replaced(file))))


def _negative(row: dict[str, Any], language: str, name: str, text: str) -> dict[str, Any]:
    return {"passage_id": name, "text": text, "language": None if language == row["language"] else language}


def _unit_file(work: _Work, number: int) -> Path:
    folder = Path(work.recipe.output, "units")
    folder.mkdir(exist_ok=True)
    return folder / f"{number:05}.json"


def _counts(work: _Work, number: int) -> dict[str, dict[str, int]] | None:
    """What was counted of a unit; None if it is not mined yet, `ValueError` if of other pairs or another index."""
    file = _unit_file(work, number)
    if not file.exists():
        return None
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if content["key"] != work.key:
        raise ValueError(f"{file} is of other pairs or of another index, which has changed: name another --output")
    return content["languages"]


def _finish(work: _Work, n_units: int) -> Path:
    """Writes `README.md` and `results.json`; returns the path of the first."""
    recipe, output = work.recipe, Path(work.recipe.output)
    counts: dict[str, Counter[str]] = {}
    for number in range(n_units):
        for language, found in (_counts(work, number) or {}).items():
            counts.setdefault(language, Counter()).update(found)
    results = {
        "index": str(Path(recipe.index).absolute()),
        "made_of": work.index.made_of,
        "model": work.encoder.name,
        "rules": asdict(recipe.rules),
        "corpus": work.corpus.fingerprint,
        "license": joined_licenses(licenses(recipe.data, work.corpus).values()),
        "languages": {language: dict(counts[language]) for language in sorted(counts)},
    }
    replace_text(output / "README.md", _page(recipe, results))
    replace_text(output / "results.json", json.dumps(results, indent=1, ensure_ascii=False))
    return output / "README.md"


def _page(recipe: Mining, results: dict[str, Any]) -> str:
    """What the folder holds, in Markdown."""
    output, most = Path(recipe.output), max(recipe.rules.count, *recipe.rules.count_of.values(), 0)
    columns = ("pairs", "negatives", _FULL, _NONE)
    rows = [(x, *(f"{found[name]:,}" for name in columns)) for x, found in results["languages"].items()]
    table = Grid("mined", ("language", *columns), rows).to_markdown()
    validation = f"{{format: {recipe.form}, path: {output}/validation}}"
    held = f" --data.validation '{validation}'" if (output / "validation").exists() else ""
    return f"""# Pairs with hard negatives

Negatives are passages of the index `{results["index"]}`, which {results["model"]} has encoded (weights
{results["made_of"]["weights"]}), by these rules: {json.dumps(results["rules"])}. `negative_scores` are the scores of
that encoder. Licence of the pairs: {results["license"]}.

{table}
Train on them; a pair with fewer negatives than `sampling.negatives` is not drawn:

    python jobs/train.py --data.path {output}/train{held} --sampling.negatives {most}
"""
