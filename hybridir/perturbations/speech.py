"""Noise as of speech recognition (ASR): no capitals, no punctuation, and misheard words.

An edit replaces a word by one that sounds alike (70 %), leaves it out (20 %), or splits it or joins it with the next
(10 %). Severity is the expected word error rate: a split or join is two word errors, so an edit is 1.1 on average, and
a rate s takes s / 1.1 edits a word. In th, zh and ja, which write no spaces, each character counts as a word.

Words are changed within sound classes of letters, chosen by hand, and need not remain words, as a recogniser's errors
do: use real transcripts where there are any.
"""

from functools import cache, lru_cache

import regex

from hybridir.perturbations.letters import letters, lower, words
from hybridir.perturbations.perturbation import Perturbation, Site
from hybridir.perturbations.typing_errors import homophones

_SOUNDS = {
    "ar": "ت ط|د ض|س ص|ذ ز|ظ ض|ق ك|ه ح|أ ع|ث س",
    "bn": "শ স|ষ শ|ন ণ|জ য|ি ী|ু ূ|ত থ|দ ধ|ব ভ|ক খ|র ড়",
    "de": "d t|b p|g k|f v|ä e|ie i|ß ss|s z|tz z|ei ai|eu äu|ch g",
    "el": "ι η|ι υ|η ει|ο ω|ε αι|ι οι|β φ|γκ γγ|ντ τ|σσ σ|λλ λ",
    "en": "f ph|c k|s c|i e|a e|ee ea|oo u|t d|b p|v f|ai ay|er or|z s|th t|m n",
    "es": "b v|c s|z s|ll y|g j|k c|h |qu c|m n|d t|r rr",
    "fa": "ت ط|س ص|ث س|ز ذ|ض ز|ظ ز|ق غ|ه ح|ا ع|ک گ",
    "fi": "d t|b p|g k|aa a|ii i|uu u|kk k|tt t|ss s|ä a|ö o|n m",
    "fr": "é er|é ait|ai é|c s|ss s|f ph|an en|in ain|o au|eau o|k c|t d|b p|s z",
    "hi": "क ख|ग घ|त थ|द ध|ट त|ड द|ि ी|ु ू|श स|ष श|ब भ|न ण|व ब",
    "id": "f p|v f|z s|sy s|kh k|b p|d t|g k|ai e|au o|ng n",
    "ja": "は わ|を お|ず づ|じ ぢ|が か|だ た|え へ|う お|ら な|ひ し",
    "ko": "ㅐ ㅔ|개 게|내 네|되 돼|대 데|에 의|은 운|을 울|이 히|가 까|시 씨|다 타",
    "ru": "о а|е и|и ы|д т|б п|г к|в ф|з с|ж ш|ё е|тс ц|сч щ",
    "sw": "r l|b p|d t|g k|dh z|th s|gh g|v f|m n|sh s",
    "te": "క ఖ|గ ఘ|త థ|ద ధ|ట త|డ ద|ి ీ|ు ూ|శ స|ష శ|న ణ|ల ళ|బ భ|ె ే|ొ ో",
    "th": "ส ศ|ส ษ|ซ ส|ท ธ|ท ฑ|ต ฏ|ร ล|ใ ไ|น ณ|พ ภ|ย ญ|ค ข|ถ ฐ|ด ต|บ ป|ิ ี|ุ ู",
    "tr": "b p|d t|c ç|g k|ğ |ı i|u ü|o ö|s ş|v f|m n|e i",
    "vi": "ch tr|s x|d gi|r d|l n|c k|i y|n ng|ư u|ă a",
    "yo": "b gb|p kp|s ṣ|e ẹ|o ọ|l n|f h|d t|g k|r l",
    "zh": "",
}  # fmt: skip
"""Pairs of letters that sound alike, `one other`; each can replace the other."""
_BY_CHARACTER = frozenset({"ja", "th", "zh"})
_WEIGHTS = (0.7, 0.2, 0.05, 0.05)


def _said(text: str, language: str) -> str:
    """The text without capitals and punctuation; a text of punctuation alone stays."""
    small = "".join(lower(c, language) for c in text)
    plain = regex.sub(r"(?<!\p{N})\p{P}|\p{P}(?!\p{N})", lambda match: match[0] if match[0] in "'’" else " ", small)
    return " ".join(plain.split()) or text


@cache
def _pairs(language: str) -> list[tuple[str, str]]:
    """The sound classes of a language, both ways: (letters, other letters)."""
    pairs = [pair.split(" ") for pair in _SOUNDS[language].split("|") if pair]
    return [(old, new) for a, b in pairs for old, new in ((a, b), (b, a)) if old]


@lru_cache(10_000)
def _alike(word: str, language: str) -> list[str]:
    """Spellings that sound like a word: a letter replaced within its sound class; in zh and ja, homophones."""
    found = list(homophones(language).get(word, "")) if language in ("ja", "zh") else []
    for old, new in _pairs(language):
        found += [word[: at.start()] + new + word[at.end() :] for at in regex.finditer(old, word, overlapped=True)]
    return [one for one in dict.fromkeys(found) if one and one != word and regex.match(r"\p{L}", one)]


def _sites(text: str, language: str) -> list[Site]:
    if language in _BY_CHARACTER:
        return [_site(text, one.text, one.start, one.end, language) for one in letters(text)]
    found, sites = words(text, language), []
    for n, one in enumerate(found):
        end = found[n + 1].start if n + 1 < len(found) and text[one.end : found[n + 1].start].isspace() else one.end
        sites.append(_site(text, one.text, one.start, end, language))
    return [site for site in sites if site.options]


def _site(text: str, word: str, start: int, end: int, language: str) -> Site:
    """The site of a word and the space after it: replaced, left out, split, or joined with the next word."""
    gap = text[start + len(word) : end]
    ways: list[list[str]] = [
        [new + gap for new in _alike(word, language)],
        [""] if gap or language in _BY_CHARACTER else [],
    ]
    if language not in _BY_CHARACTER:
        places = [one.end for one in letters(word)][:-1]
        ways += [[f"{word[:n]} {word[n:]}{gap}" for n in places], [word] if gap else []]
    weighed = [(new, weight / len(way)) for way, weight in zip(ways, _WEIGHTS, strict=False) for new in way]
    return Site(start, end, tuple(new for new, _ in weighed), tuple(weight for _, weight in weighed))


ASR = Perturbation(
    sites=_sites,
    unit="words (th, zh, ja: characters)",
    about="no capitals and punctuation; words as they sound, left out, split or joined, at a word error rate",
    languages=frozenset(_SOUNDS),
    first=_said,
    edits_per_site=1 / 1.1,
)
