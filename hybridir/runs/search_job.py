"""Search in an index: a question in any language, the best passages with their languages and scores."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from hybridir.data.texts import fault, is_blank
from hybridir.model.check import as_published
from hybridir.model.config import EncoderConfig
from hybridir.model.distributed import pick_device
from hybridir.model.encoder import Encoder
from hybridir.model.files import model_of
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.sharded import Means, Sharded, top_k_sharded
from hybridir.retrieval.shards import Index, open_index
from hybridir.retrieval.systems import fingerprint
from hybridir.runs.backend import quiet_libraries
from hybridir.runtime.plain_yaml import read_yaml
from hybridir.runtime.progress import say

_CONTROL = dict.fromkeys((*range(32), *range(127, 160)), " ")
Hit = tuple[float, str, str, str]
"""Score, language, id and text of a passage."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search in an index.

    Args:
        index: the folder of the index, made by jobs/encode.py.
        question: the question, in any language. Omitted: each line of the standard input is one.
        k: the number of passages to print.
        languages: language codes of the passages to search. Omitted: all.
        model: name of the encoder. Omitted: where it was when the index was made.
        use_gpu: whether to encode and search on the GPU.
        retrieval: `memory` bounds the memory of the search.
    """

    index: str = ""
    question: str = ""
    k: int = 10
    languages: tuple[str, ...] = ()
    model: str = ""
    use_gpu: bool = False
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)

    def __post_init__(self) -> None:
        if not self.index:
            raise ValueError("index is empty: python jobs/search.py INDEX 'a question'")
        if self.k < 1:
            raise ValueError(f"k is {self.k}: it must be at least 1")


def open_with_encoder(folder: Path, model: str = "") -> tuple[Index, EncoderConfig]:
    """An index and the encoder that it was made with, which is `model` now, or is where it was.

    Raises:
        ValueError: there is no index, it is not complete, or `model` is another one.
    """
    index = open_index(folder)
    made = read_yaml(folder / "config.yaml")["encoder"]
    config = EncoderConfig(**made | ({"name": model} if model else {}))
    config = as_published(replace(config, name=model_of(config.name)))
    if (found := fingerprint(config)) != index.made_of["weights"]:
        raise ValueError(
            f"{folder} was made with the model {index.made_of['weights']}, but {config.name} is {found}: name the "
            "right one with --model, or make the index again"
        )
    for shard in index.shards:
        index.about(shard)
    return index, config


def searcher(recipe: Search) -> Callable[[str], list[Hit]]:
    """Loads the encoder; returns a function from a question to its best passages, best first.

    Raises `ValueError` as `open_with_encoder` does.
    """
    index, config = open_with_encoder(Path(recipe.index), recipe.model)
    vectors = Sharded(index, index.together(recipe.languages))
    device = pick_device(recipe.use_gpu)
    means = Means(recipe.retrieval.memory, str(device))
    encoder = Encoder.load(config).to(device)

    def search(question: str) -> list[Hit]:
        query_QD = encoder.encode([question], "query")
        k = min(recipe.k, len(index))
        (scores,), (places,) = top_k_sharded(query_QD, vectors, k, means)
        rows = zip(scores.tolist(), places.tolist(), strict=True)
        found = [(score, place) for score, place in rows if place >= 0]
        passages = index.passages_at([place for _, place in found])
        return [(score, *one) for (score, _), one in zip(found, passages, strict=True)]

    return search


def _shown(text: str) -> str:
    """The text on one line, without characters that would steer the terminal."""
    return " ".join(text.translate(_CONTROL).split())


def run_search(recipe: Search, lines: Iterable[str] = sys.stdin) -> None:
    """Prints the best passages of the question, or of each line."""
    quiet_libraries()
    search = searcher(recipe)
    if not recipe.question and sys.stdin.isatty():
        say("a question on each line; Ctrl-D ends")
    for question in [recipe.question] if recipe.question else lines:
        if wrong := fault(question):
            raise ValueError(f"the question {question.strip()!a:.80} cannot be read ({wrong[0]}): write it in UTF-8")
        if not is_blank(question):
            for rank, (score, language, name, text) in enumerate(search(question.strip()), start=1):
                print(f"{rank:3}  {score:.4f}  {language}  {_shown(name)}  {_shown(text)}", flush=True)
            print(flush=True)
