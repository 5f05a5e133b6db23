"""What is wrong with a text, and which texts are the same to a reader: for pairs and for benchmarks alike."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

MAX_TEXT = 10_000_000
"""Largest number of characters of a text."""
MAX_NAME = 1000
"""The same for ids, languages, sources and domains."""

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that show nothing: Unicode's Default_Ignorable_Code_Point and a few more (fillers, braille blank)."""
_FORMS = "\ufb00-\ufdff\ufe70-\ufefc"
"""Ligatures, and Arabic letters in their forms by place, as in texts from PDF files: to a reader, plain letters."""
_UNUSUAL = re.compile(f"[{_INVISIBLE}]+|([{_FORMS}])")
_SEEN = re.compile(rf"[^\s\x00-\x1f\x7f-\x9f{_INVISIBLE}]")


def fault(text: str, most: int = MAX_TEXT) -> tuple[str, str] | None:
    """The reason (a short fixed phrase) why a text cannot be used and the value that is wrong; None if it can."""
    if len(text) > most:
        return "over-long text", f"{len(text)} characters, at most {most}: {text[:80]!a}"
    if "\0" in text:
        return "NUL byte", f"{text[:80]!a}"
    if not text.isascii() and not text.isprintable():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return "unpaired surrogate", f"{text[max(0, error.start - 40) : error.start + 40]!a}"
    return None


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing: white space, control characters, zero-width characters."""
    return _SEEN.search(text) is None


def as_read(text: str) -> str:
    """What a reader sees: in Unicode's form NFC, without invisible characters and ligatures, with single spaces.

    Passages for which this is the same are the same passage. Of the compatibility characters that NFKC would replace,
    only `_FORMS` are: a reader tells x² from x2, although some tokenizers do not.
    """
    if not text.isascii():
        if _UNUSUAL.search(text):
            text = _UNUSUAL.sub(lambda found: unicodedata.normalize("NFKC", found[1] or ""), text)
        text = unicodedata.normalize("NFC", text)
    if text.isprintable() and "  " not in text and text.strip() == text:  # what most texts are
        return text
    return " ".join(text.split())


def same_as(text: str, others: Iterable[str]) -> Iterator[bool]:
    """Whether each of the others is read like `text`. Most texts differ in the letter that they begin with."""
    begin, read = _begin(text), ""
    for other in others:
        if other == text or _begin(other) != begin:
            yield other == text
        else:
            read = read or as_read(text)
            yield as_read(other) == read


def _begin(text: str) -> str:
    """The first visible character without its accents; empty if it is an accent, as their order varies."""
    if text[:1].isalnum() and text[0].isascii():
        return text[0]
    found = _SEEN.search(text)
    first = unicodedata.normalize("NFKD", found[0]).strip()[:1] if found else ""
    return "" if first and unicodedata.combining(first) else first
