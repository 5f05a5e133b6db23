"""Marks: accents, tones, vowel signs and dots, which are left out or replaced by another.

The rules of a language are in tables of pairs. They are spelling errors that writers of the language know, collected by
hand, except for accents, which are those of Unicode.
"""

import unicodedata
from collections.abc import Callable, Mapping

import regex

from hybridir.perturbations.letters import coded_as, decomposed, letters
from hybridir.perturbations.perturbation import Perturbation, Site

_TONES = {
    "vi": "\u0300\u0301\u0303\u0309\u0323",
    "yo": "\u0300\u0301\u0304",
    "th": "\u0e48\u0e49\u0e4a\u0e4b",
}
_SHORT_VOWELS, _HARAKAT = "\u064e\u064f\u0650", regex.compile("[\u064b-\u0652]")
_NUKTA, _VIRAMA = "\u093c\u09bc", "\u094d\u09cd\u0c4d"


def _both(*pairs: str) -> dict[str, str]:
    """For each character of a set, the others of that set."""
    return {c: "".join(other for other in pair if other != c) for pair in pairs for c in pair}


DOTS = {
    "ar": _both("بتث", "جحخ", "دذ", "رز", "سش", "صض", "طظ", "عغ", "فق"),
    "fa": _both("بپتث", "جچحخ", "دذ", "رزژ", "سش", "صض", "طظ", "عغ", "فق"),
}
"""Letters that differ by their dots alone."""
_MATRAS = {
    "hi": _both("िी", "ुू", "ेै", "ोौ", "इई", "उऊ", "एऐ", "ओऔ"),
    "bn": _both("িী", "ুূ", "োৌ", "ইঈ", "উঊ"),
    "te": _both("ిీ", "ుూ", "ెే", "ొో", "ఇఈ", "ఉఊ", "ఎఏ", "ఒఓ"),
}


def _by_letter(change: Callable[[str, str], list[str]]) -> Callable[[str, str], list[Site]]:
    """Finds sites by a function (cluster, language) -> options."""

    def sites(text: str, language: str) -> list[Site]:
        found = ((one, [new for new in change(one.text, language) if new != one.text]) for one in letters(text))
        return [Site(one.start, one.end, tuple(options)) for one, options in found if options]

    return sites


def _without_marks(cluster: str, language: str) -> list[str]:
    if language == "vi" and cluster in "đĐ":
        return ["d" if cluster == "đ" else "D"]
    plain = "".join(c for c in decomposed(cluster) if unicodedata.category(c) != "Mn")
    return [coded_as(plain, cluster)] if plain != decomposed(cluster) else []


def _other_tone(cluster: str, language: str) -> list[str]:
    tones, parts = _TONES[language], decomposed(cluster)
    found = []
    for n in (n for n, c in enumerate(parts) if c in tones):
        before, after = parts[:n], parts[n + 1 :]
        if language != "th":  # composed characters have the mark of the vowel first; Thai may have one after the tone
            before, after = before + after, ""
        found += [coded_as(before + other + after, cluster) for other in ("", *tones) if other != parts[n]]
    return found


def _turkish_i(cluster: str, language: str) -> list[str]:
    return [_both("iı", "Iİ")[cluster]] if cluster in "iıIİ" else []


def _characters(text: str, options: Mapping[str, str], drop: bool = False) -> list[Site]:
    """A site for each character that has options; with `drop`, a mark can also be left out."""
    return [
        Site(n, n + 1, (*options[c], *([""] if drop and unicodedata.category(c)[0] == "M" else [])))
        for n, c in enumerate(text)
        if c in options
    ]


def _matra(text: str, language: str) -> list[Site]:
    return _characters(text, _MATRAS[language], drop=True)


def _dropped(marks: str) -> Callable[[str, str], list[Site]]:
    """Finds sites where one of these marks is left out, whether composed or not."""

    def change(cluster: str, language: str) -> list[str]:
        parts = decomposed(cluster)
        return [coded_as(parts[:n] + parts[n + 1 :], cluster) for n, c in enumerate(parts) if c in marks]

    return _by_letter(change)


_ARABIC = {
    "ar": [("[أإآ]", "ا"), (r"\bا(?!ل)", "أ"), (r"ى\b", "ي"), (r"ي\b", "ى"), (r"ة\b", "ه"), (r"ه\b", "ة")],
    "fa": [("ی", "ي"), ("ک", "ك"), ("آ", "ا"), ("\u200c", ""), ("\u200c", " ")],
}


def _arabic_letters(text: str, language: str) -> list[Site]:
    found: dict[tuple[int, int], list[str]] = {}
    for pattern, new in _ARABIC[language]:
        for match in regex.finditer(pattern, text):
            found.setdefault(match.span(), []).append(new)
    return [Site(*span, tuple(options)) for span, options in sorted(found.items())]


def _harakat(text: str, language: str) -> list[Site]:
    """A vowel mark left out, or added to a letter without one."""
    sites = [Site(match.start(), match.end(), ("",)) for match in _HARAKAT.finditer(text)]
    bare = (one for one in letters(text) if not _HARAKAT.search(one.text) and "\u0620" <= one.text[0] <= "\u06d3")
    return sites + [Site(one.end, one.end, tuple(_SHORT_VOWELS)) for one in bare if one.text[0] not in "اآىـ"]


_THAI_MARKS = regex.compile("([\u0e31\u0e34-\u0e39\u0e47])([\u0e48-\u0e4c])|([เแโใไ])|(\u0e33)")


def _thai_order(text: str, language: str) -> list[Site]:
    sites = []
    other = {"เ": ("แ",), "แ": ("เ", "เเ"), "ใ": ("ไ",), "ไ": ("ใ",), "\u0e33": ("\u0e4d\u0e32",)}
    for match in _THAI_MARKS.finditer(text):
        options = (match[2] + match[1],) if match[1] else other.get(match[0], ())
        sites += [Site(match.start(), match.end(), options)] if options else []
    return sites


DIACRITICS = Perturbation(
    sites=_by_letter(_without_marks),
    unit="letters with accents",
    about="the accents are left out; in vi the bar of đ too",
    languages=frozenset({"de", "el", "es", "fi", "fr", "tr", "vi", "yo"}),
)
TONE_MARKS = Perturbation(
    sites=_by_letter(_other_tone),
    unit="letters with a tone mark",
    about="the tone mark is left out or another one; the mark of the vowel stays",
    languages=frozenset(_TONES),
)
TURKISH_I = Perturbation(
    sites=_by_letter(_turkish_i), unit="letters i", about="i and ı, İ and I exchanged", languages=frozenset({"tr"})
)
ARABIC_LETTERS = Perturbation(
    sites=_arabic_letters,
    unit="letters that are written in two ways",
    about="ar: alef with and without hamza, final ya and alef maqsura, ta marbuta and ha; fa: Arabic ya and kaf, the"
    " zero-width non-joiner left out or a space",
    languages=frozenset(_ARABIC),
)
HARAKAT = Perturbation(
    sites=_harakat,
    unit="letters and vowel marks",
    about="a vowel mark added or left out",
    languages=frozenset({"ar", "fa"}),
)
ARABIC_DOTS = Perturbation(
    sites=lambda text, language: _characters(text, DOTS[language]),
    unit="letters that differ from others by their dots",
    about="other dots on a letter",
    languages=frozenset(DOTS),
)
MATRA = Perturbation(
    sites=_matra,
    unit="vowel signs",
    about="a short vowel for a long one, or no vowel sign",
    languages=frozenset(_MATRAS),
)
NUKTA = Perturbation(
    sites=_dropped(_NUKTA), unit="nuktas", about="the dot below is left out", languages=frozenset({"bn", "hi"})
)
VIRAMA = Perturbation(
    sites=_dropped(_VIRAMA),
    unit="viramas",
    about="the sign of a joined letter is left out",
    languages=frozenset(_MATRAS),
)
THAI_ORDER = Perturbation(
    sites=_thai_order,
    unit="vowels before a letter, and pairs of vowel and tone",
    about="tone before vowel; เ for แ, ใ for ไ; signs of two parts typed as two",
    languages=frozenset({"th"}),
)
