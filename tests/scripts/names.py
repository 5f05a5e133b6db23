"""A gate that looks for names, which is not used, on XQuAD's translations: python tests/scripts/names.py XQUAD_R.

For some languages in Latin script, of passages and of questions: the share of right
translations that are lost, and of translations of the next text that are found, by `lost number` alone, and by it or a
gate that asks for names of the source in the translation (at least a quarter of two or more; any of three or more).
"""

import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import regex

from hybridir.translation.gates import Between, lost_number

LANGUAGES = ("de", "es", "tr", "vi")
NAME = regex.compile(r"(?<=[^\s.!?:\"'(\[«“‘]\s)(?:\p{Lu}\p{Ll}{3,}|\p{Lu}{2,})")
"""A word with a capital that does not begin a sentence."""


def texts(file: Path) -> tuple[list[str], list[str]]:
    """Passages and questions."""
    articles = json.loads(file.read_text(encoding="utf-8"))["data"]
    paragraphs = [one for article in articles for one in article["paragraphs"]]
    return [one["context"] for one in paragraphs], [qa["question"] for one in paragraphs for qa in one["qas"]]


def folded(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)).lower()


def lost_names(least: int, share: float) -> Callable[[str, str], bool]:
    """Of `least` names or more, less than `share` begin as something in the translation does."""

    def gate(source: str, translation: str) -> bool:
        names, there = {folded(one)[:4] for one in NAME.findall(source)}, folded(translation)
        return len(names) >= least and sum(name in there for name in names) < share * len(names)

    return gate


def main(folder: Path) -> None:
    gates = {"number": lambda source, translation: False, "+ a quarter of 2": lost_names(2, 1 / 4)}
    gates["+ one of 3"] = lost_names(3, 1e-9)
    for language in LANGUAGES:
        between = Between("en", language)
        both = texts(folder / "en.json"), texts(folder / f"{language}.json")
        for sources, translations, what in zip(*both, ("passages", "questions"), strict=True):
            step = 1 if what == "passages" else 7  # neighbours are questions about one passage
            swapped = [*translations[step:], *translations[:step]]
            shown = []
            for name, gate in gates.items():
                lost, found = (
                    sum(lost_number(*two, between) or gate(*two) for two in zip(sources, some, strict=True)) / len(some)
                    for some in (translations, swapped)
                )
                shown.append(f"{name}: {lost:.1%} lost, {found:.1%} found")
            print(language, what, "; ".join(shown), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
