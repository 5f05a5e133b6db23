"""The data card: numbers about a corpus that show mistakes before training."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from hybridir.batches.token_cache import TokenJob
from hybridir.data.corpus import Corpus
from hybridir.data.records import LEFT_OUT, OWN, PARTS, REPEATED, SEEN_PARTS, SKIPPED, UNREAD
from hybridir.model.tokenizer import load_tokenizer
from hybridir.runtime.tables import Grid, notes

MEASURED, GUESSED = 2000, 200
"""Pairs sampled in each language (or all, if there are fewer), to measure lengths and to guess the language."""
SUSPICIOUS = 0.1
"""A warning is given if a larger share of the sampled pairs looks like another language."""
LARGE_GROUP = 0.01
"""A warning is given if one passage group ties a larger share of all groups."""
_CHUNKS, _LISTED = 50, 10


def data_card(corpus: Corpus, tokens: TokenJob) -> dict[str, Any]:
    """The data card of `corpus` as JSON values: counts, parallelism, lengths in tokens, share of cut texts, warnings.

    Lengths are those of a sample of the pairs in each language, with the tokenizer and the limits of `tokens`.
    """
    row_of = np.asarray(corpus.row_of)
    there_GL = row_of >= 0
    n_languages_G = there_GL.sum(axis=1)
    used_G = n_languages_G > 0  # not so if the group overlaps with an excluded benchmark
    single = int((n_languages_G == 1).sum())
    of_source = [used_G & (np.asarray(corpus.source_of) == n) for n in range(len(corpus.sources))]
    card: dict[str, Any] = {
        "fingerprint": corpus.fingerprint,
        "read": corpus.n_read,
        "accepted": corpus.n_pairs,
        "rejected": corpus.rejected,
        "notes": corpus.notes,
        "groups": int(used_G.sum()),
        "parts": {
            part: {
                "groups": int((used_G & corpus.groups(part)).sum()),
                "pairs": int(there_GL[corpus.groups(part)].sum()),
            }
            for part in PARTS
            if part in SEEN_PARTS or corpus.groups(part).any()
        },
        "languages": {
            code: {"pairs": int(there_GL[:, n].sum())} | _lengths(_sample(corpus, code, MEASURED), tokens)
            for n, code in enumerate(corpus.languages)
        },
        "groups_by_number_of_languages": {
            int(n): int(count) for n, count in zip(*np.unique(n_languages_G[used_G], return_counts=True), strict=True)
        },
        "groups_in_both": _in_both(corpus.languages, there_GL),
        "sources": {
            name: {"groups": int(of_source[n].sum()), "pairs": int(there_GL[of_source[n]].sum())}
            for n, name in enumerate(corpus.sources)
        },
        "domains": corpus.domains,
        "hard_negatives_of_a_pair": _quantiles(np.diff(corpus.negative_start)[row_of[there_GL]]),
        "largest_passage_group": int(np.bincount(corpus.passage_group).max()),
        "passage_groups_in_both_parts": len(
            np.intersect1d(*(corpus.passage_group[corpus.groups(part)] for part in SEEN_PARTS))
        ),
        "other_language": guess_languages(corpus),
    }
    card["warnings"] = _warnings(card, single, tokens)
    return card


def guess_languages(corpus: Corpus) -> dict[str, dict[str, Any]]:
    """For each language: how many pairs were sampled, and which other languages py3langid detects in them.

    Query and passage are classified as one text. Languages that py3langid does not know are left out.
    """
    from py3langid import classify, rank

    known = {label for label, _ in rank("")}
    guessed = {}
    for code in corpus.languages:
        main = code.replace("_", "-").partition("-")[0]
        if main in known:
            pairs = _sample(corpus, code, GUESSED)
            found = Counter(classify(f"{pair['query']} {pair['passage']['text']}")[0] for pair in pairs)
            del found[main]
            guessed[code] = {"sampled": len(pairs), "others": dict(found.most_common(3)), "n_others": found.total()}
    return guessed


def intake_table(card: dict[str, Any]) -> Grid:
    """Rows read, accepted, and rejected by reason. A row is a pair, or a line that yields no pair."""
    rejected = sum(card["rejected"].values())
    rows = [("read", card["read"]), ("accepted", card["accepted"]), ("rejected", rejected)]
    rows += [(f"  {reason}", count) for reason, count in card["rejected"].items()]
    return Grid(
        "rows", ("", "rows", "share"), [(name, str(count), _share(count, card["read"])) for name, count in rows]
    )


def card_tables(card: dict[str, Any]) -> list[Grid]:
    """The card as tables, for the screen and for Markdown."""
    tables = [intake_table(card)]
    parts = [(name, str(part["groups"]), str(part["pairs"])) for name, part in card["parts"].items()]
    if len(card["sources"]) > 1 or list(card["sources"]) != [""]:
        parts += [(f"source {n}", str(one["groups"]), str(one["pairs"])) for n, one in card["sources"].items()]
    if set(card["domains"]) != {""}:
        parts += [(f"domain {name}", "", str(pairs)) for name, pairs in list(card["domains"].items())[:_LISTED]]
    parts.append(("largest group of the same passage", str(card["largest_passage_group"]), ""))
    tables.append(Grid("pairs", ("", "groups", "pairs"), parts))
    header = ("language", "pairs", "query tokens", "cut", "passage tokens", "cut", "look like another")
    languages = []
    for code, one in card["languages"].items():
        guess = card["other_language"].get(code)
        other = _share(guess["n_others"], guess["sampled"]) if guess else "?"
        cells = [_spread(one[side]["tokens"]) for side in ("query", "passage")]
        cut = [f"{one[side]['cut']:.1%}" for side in ("query", "passage")]
        languages.append((code, str(one["pairs"]), cells[0], cut[0], cells[1], cut[1], other))
    tables.append(Grid(f"languages (tokens of at most {MEASURED} pairs: median, 95 %, most)", header, languages))
    several = card["groups_by_number_of_languages"].items()
    parallel = [(f"in {n} language{'s' if int(n) > 1 else ''}", str(c), _share(c, card["groups"])) for n, c in several]
    tables.append(Grid("parallelism", ("groups", "number", "share"), parallel))
    both = sorted(card["groups_in_both"].items(), key=lambda item: item[1])
    if both:
        rows = [(pair, str(count), _share(count, card["groups"])) for pair, count in both[:_LISTED]]
        tables.append(Grid("groups by pair of languages, fewest first", ("languages", "groups", "share"), rows))
    hard = card["hard_negatives_of_a_pair"]
    if hard["most"]:
        tables.append(
            Grid("hard negatives of a pair", ("median", "95 %", "most"), [tuple(f"{n:.0f}" for n in hard.values())])
        )
    return tables


def to_markdown(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    parts = [table.to_markdown() for table in card_tables(card)]
    parts.append(notes(card["warnings"]))
    return "\n".join([f"## Data {card['fingerprint'][:16]}\n", *parts])


def _sample(corpus: Corpus, language: str, size: int) -> list[dict[str, Any]]:
    """Up to `size` pairs of a language, evenly spaced over the corpus, from at most `_CHUNKS` of its chunks."""
    rows = np.sort(corpus.row_of[:, corpus.languages.index(language)])
    rows = rows[np.searchsorted(rows, 0) :]
    chunk_of = np.searchsorted(corpus.chunk_start, rows, side="right") - 1
    chunks = np.unique(chunk_of)
    chunks = chunks[:: -(-len(chunks) // _CHUNKS)]
    pairs: list[dict[str, Any]] = []
    for n, number in enumerate(chunks.tolist()):
        inside = rows[chunk_of == number] - corpus.chunk_start[number]
        wanted = -(-(size - len(pairs)) // (len(chunks) - n))
        inside = inside[:: max(1, len(inside) // wanted)][:wanted]
        pairs += corpus.chunk(number).select(["query", "passage"]).take(pa.array(inside)).to_pylist()
    return pairs


def _lengths(pairs: list[dict[str, Any]], tokens: TokenJob) -> dict[str, Any]:
    """Lengths of queries and passages in tokens, and the share that is longer than the limit."""
    tokenizer = load_tokenizer(tokens.tokenizer, tokens.revision)
    queries = [tokens.query_prefix + pair["query"] for pair in pairs]
    passages = [tokens.passage_prefix + pair["passage"]["text"] for pair in pairs]
    found = {}
    for side, texts, limit in (
        ("query", queries, tokens.max_query_length),
        ("passage", passages, tokens.max_passage_length),
    ):
        lengths = np.array([len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]])
        found[side] = {"tokens": _quantiles(lengths), "cut": float((lengths > limit).mean())}
    return {"measured": len(pairs)} | found


def _in_both(languages: tuple[str, ...], there_GL: np.ndarray) -> dict[str, int]:
    """For each pair of languages, the number of groups that have both."""
    counts = there_GL.T.astype(np.float64) @ there_GL
    size = range(len(languages))
    return {f"{languages[x]}-{languages[y]}": int(counts[x, y]) for x in size for y in size if x < y}


def _warnings(card: dict[str, Any], single: int, limits: TokenJob) -> list[str]:
    left_out = ", ".join(f"{n} x {code}" for code, n in card["notes"].get(LEFT_OUT, {}).items())
    found = [f"left out, because data.languages does not name them: {left_out}"] if left_out else []
    for kind in (REPEATED, OWN):
        if counts := card["notes"].get(kind):
            found.append(f"{kind}: {', '.join(f'{n} in {file}' for file, n in counts.items())}")
    for kind in (UNREAD, SKIPPED):
        if names := list(card["notes"].get(kind, {})):
            found.append(f"{kind}: {', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''}")
    largest = card["largest_passage_group"]
    if largest > max(10, LARGE_GROUP * card["groups"]):
        found.append(
            f"{largest} of {card['groups']} groups count as the same passage, so no batch has two of them: check "
            "passage_id and passage_group_id"
        )
    if shared := card["passage_groups_in_both_parts"]:
        found.append(f"{shared} passages are both in the training pairs and in the validation pairs")
    for code, guess in card["other_language"].items():
        if guess["n_others"] > SUSPICIOUS * guess["sampled"]:
            others = ", ".join(f"{n} x {other}" for other, n in guess["others"].items())
            found.append(
                f"{code}: {guess['n_others']} of {guess['sampled']} sampled pairs look like another language ({others})"
            )
    if single:
        found.append(
            f"{single} of {card['groups']} groups ({_share(single, card['groups'])}) are in one language only: "
            "cross-lingual batches never draw them"
        )
    for side, limit in (("query", limits.max_query_length), ("passage", limits.max_passage_length)):
        cut = {code: one[side]["cut"] for code, one in card["languages"].items() if one[side]["cut"]}
        if cut:
            shares = ", ".join(f"{code} {share:.1%}" for code, share in cut.items())
            found.append(f"texts longer than encoder.max_{side}_length = {limit} tokens will be cut: {shares}")
    return found


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(values)), "p95": float(np.quantile(values, 0.95)), "most": int(values.max())}


def _spread(quantiles: dict[str, float]) -> str:
    return f"{quantiles['median']:.0f}, {quantiles['p95']:.0f}, {quantiles['most']:.0f}"


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else ""
