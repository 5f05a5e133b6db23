"""Words for messages."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` if `word` is nearly one of the `known` words, else nothing."""
    near = get_close_matches(word.lower(), known := list(known), n=1, cutoff=0.6)
    near = near or [one for one in known if one.lower() == word.lower()]
    return f" (did you mean {near[0]}?)" if near else ""


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
