"""Words for messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` if `word` is nearly one of the `known` words, else nothing."""
    near = get_close_matches(word.lower(), known := list(known), n=1, cutoff=0.6)
    near = near or [one for one in known if one.lower() == word.lower()]
    return f" (did you mean {near[0]}?)" if near else ""
