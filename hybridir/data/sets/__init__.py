"""Published English sets by the name that `data.format` gives them: those that arXiv 2408.10536 trains on, with mMARCO
among the formats, and what it validates on. A new set is one module here and one line in the dict."""

from types import ModuleType

from hybridir.data.sets import (
    duorc,
    entity_questions,
    mfaq,
    mr_tydi,
    natural_questions,
    newsqa,
    squadshifts,
    wikiqa,
    yahoo_answers,
)

SETS: dict[str, ModuleType] = {
    "wikiqa": wikiqa,
    "mr-tydi": mr_tydi,
    "duorc": duorc,
    "newsqa": newsqa,
    "natural-questions": natural_questions,
    "yahoo-answers": yahoo_answers,
    "entity-questions": entity_questions,
    "mfaq": mfaq,
    "squadshifts": squadshifts,
}
"""Each module has `ABOUT` (a `Published`) and, if its files are read in another way, `find_shards` (a `PairReader`)."""
