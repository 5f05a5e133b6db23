"""What published training sets have in common: where they are, their licence, and how their files are read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.formats import hub
from hybridir.data.records import BadRow, Pair, Passage, Shard


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published set.

    Attributes:
        license: licence of the texts, for the model card.
        page: where it is described, and can be fetched.
        fields: how its rows become pairs.
        hub: id of the dataset on the Hugging Face hub; empty if the files have to be fetched by hand.
        files: pattern of its files there, in which `{split}` stands for `source.split`.
        by_hand: what to do if `hub` is empty.
    """

    license: str
    page: str
    fields: rows.Fields
    hub: str = ""
    files: str = ""
    by_hand: str = ""


def shards(source: Source, about: Published) -> list[Shard]:
    """The shards of a set: from the hub at `source.revision` if no path is given, else of its files in `source.path`.

    In a folder, the files are named as on the hub, so that no other split is read. The texts are English. `ValueError`
    if the revision is no commit, or files must be fetched by hand.
    """
    source = replace(source, language=source.language or "en")
    files = about.files.replace("{split}", source.split)
    if source.path.startswith("hf://") or (about.hub and not source.path):
        path = source.path or f"{hub.PREFIX}{about.hub}"
        return hub.find_shards(replace(source, path=path, subset=source.subset or files), about.fields)
    if not source.path:
        raise ValueError(f"data.format {source.format} cannot be fetched by itself: {about.by_hand} ({about.page})")
    return rows.shards(source, about.fields, files.rpartition("/")[2])


def pair(group_id: str, query: str, text: str, passage_group_id: str, language: str | None, domain: str = "") -> Pair:
    """A pair whose passage has no id; in English, unless the source names another language."""
    language = language or "en"
    passage = Passage(passage_id="", language=language, text=text)
    return Pair(
        group_id=group_id,
        language=language,
        query=query,
        passage=passage,
        passage_group_id=passage_group_id,
        domain=domain,
    )


def each(items: Iterable[Any], pair_of: Callable[[Any], Pair]) -> Iterator[Pair | BadRow]:
    """The pair of each item in a row, or what is wrong with that item."""
    for item in items:
        try:
            yield pair_of(item)
        except BadRow as bad:
            yield bad


def window(text: str, start: int, end: int, words: int = 100) -> str:
    """About `words` words of a text around the characters `start` to `end`, cut at spaces."""
    before = text[:start].rsplit(None, words + 1)[-words - 1 :]
    after = text[end:].split(None, words + 1)[: words + 1]
    inside = text[start:end]
    if start and not text[start - 1].isspace() and before:  # the answer begins within a word
        inside = before.pop() + inside
    if end < len(text) and not text[end].isspace() and after:
        inside += after.pop(0)
    left = max(0, words - len(inside.split()))
    n_before = min(len(before), max(left // 2, left - len(after)))
    return " ".join([*before[len(before) - n_before :], inside, *after[: left - n_before]])
