"""Splits texts into sentences, which is what translation models are trained on, and joins the translations again."""

import regex

UNSPACED = frozenset(("ja", "km", "lo", "my", "th", "yue", "zh"))
"""Languages that put no space between sentences."""
_ABBREVIATED = r"(?<!\b(?:Dr|Mr|Mrs|Ms|St|Mt|Jr|Sr|No|vs|cf|etc|e\.g|i\.e|approx|Prof|Gen|Col|Lt|Sen|Rep|Gov|\p{Lu})\.)"
_END = regex.compile(
    r"\s*[\r\n]+\s*"  # a line of its own is a sentence of its own
    r"|(?<=[。！？])(?![”’」』）])\s*"
    r"|(?<=[.!?…؟۔।॥።]|[.!?][\"'”’)\]])" + _ABBREVIATED + r"\s+(?=[\"'“‘(\[¿¡]?[^\p{Ll}\s])"
)


def split(text: str) -> list[str]:
    """The sentences of a text, without the spaces between them; none for an empty text.

    A full stop ends no sentence after an initial or a common abbreviation, or before a small letter.
    """
    return [one for piece in _END.split(text.strip()) if (one := piece.strip())]


def join(sentences: list[str], language: str) -> str:
    """The text of these sentences in a language."""
    return ("" if language.partition("_")[0] in UNSPACED else " ").join(one.strip() for one in sentences).strip()


def halves(sentence: str) -> tuple[str, str]:
    """A sentence cut at the space nearest to its middle, or in the middle if there is no space."""
    middle = len(sentence) // 2
    spaces = [found.start() for found in regex.finditer(r"(?<=\S)\s+(?=\S)", sentence)]
    at = min(spaces, key=lambda place: abs(place - middle), default=middle)
    return sentence[:at], sentence[at:].strip() if spaces else sentence[at:]
