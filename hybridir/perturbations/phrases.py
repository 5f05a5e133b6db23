"""Words: their order, stop words, names in another language, and another script."""

import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path

import regex
from babel import Locale

from hybridir.perturbations.letters import WITHOUT_SPACES, decomposed, script, table, words
from hybridir.perturbations.perturbation import Perturbation, Site

_KEPT = {
    "ar": "ما ماذا من متى أين كيف لماذا كم هل أي أية لا لم لن ليس ليست غير بدون",
    "bn": "কি কী কে কেন কখন কোথায় কোন কত না নয় নেই",
    "de": "wer was wann wo wie warum welche welcher welches welchem welchen wem wen wessen wohin woher nicht kein "
    "keine keinen keiner keinem nie ohne wieviel",
    "el": "ποιος ποια ποιο ποιοι ποιες ποιον τι πότε πού πως πώς γιατί πόσο πόσα ποτε δεν μη μην όχι χωρίς",
    "en": "who what when where how why which whom whose not no nor never none without cannot",
    "es": "quién qué cuándo dónde cómo cuál cuáles por quien que cuanto cuánto cuántos cuántas no ni nunca sin nada",
    "fa": "چه که کی کجا چرا چگونه کدام چند آیا نه نیست بدون",
    "fi": "kuka mikä milloin missä miten miksi mitä kuinka kenen minkä mihin ei eivät en et emme ette ilman",
    "fr": "qui que quoi quand où comment pourquoi quel quelle quels quelles combien ne pas non ni jamais sans",
    "hi": "क्या कौन कब कहाँ कहां कैसे क्यों कितना कितने कितनी किस किसे नहीं न ना मत बिना",
    "id": "siapa apa kapan mana dimana bagaimana mengapa kenapa berapa tidak bukan tanpa jangan belum",
    "ko": "누구 무엇 언제 어디 어떻게 왜 어느 몇 안 못 않다 아니 없이",
    "ru": "кто что когда где как почему какой какая какое какие сколько зачем чей не ни нет без никогда",
    "sw": "nani nini lini wapi vipi kwanini gani ngapi si hapana bila",
    "tr": "kim ne zaman nerede nasıl neden niçin hangi kaç niye mı mi mu mü değil yok hiç",
    "vi": "ai gì nào khi sao đâu bao nhiêu mấy thế không chẳng chưa đừng",
    "yo": "tani kí kíni kini nígbà níbo báwo kò kì ko ki",
}  # fmt: skip
"""Question words and negations, which stay: without them it is another question."""
_MIXED_IN = ("en", "es", "fr", "de")
"""Names become English; English ones become Spanish, French or German."""
_NON_LATIN = frozenset({"am", "ar", "bn", "el", "fa", "hi", "ja", "km", "ko", "ru", "te", "th", "zh"})
_CONSONANT = regex.compile(r"[\u0915-\u0939\u0958-\u095f\u0995-\u09b9\u09dc-\u09df\u0c15-\u0c39]")
_READ = {"ا": "a", "أ": "a", "آ": "a", "إ": "i", "ع": "a"}
"""Arabic letters that the table lacks, in Latin letters as in chats."""
_INHERENT = {"DEVANAGARI": "a", "BENGALI": "o", "TELUGU": "a"}
_JAMO = (  # first consonants, vowels, last consonants
    "g kk n d tt r m b pp s ss _ j jj ch k t p h",
    "a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i",
    "_ k k k n n n t l k m l l l p l m p p t t ng t t k t p t",
)
"""The revised romanisation of Korean, letter by letter."""


def _word_order(text: str, language: str) -> list[Site]:
    found = words(text, language)
    return [
        Site(a.start, b.end, (b.text + text[a.end : b.start] + a.text,))
        for a, b in pairwise(found)
        if not text[a.end : b.start].strip() and a.text != b.text
    ]


@cache
def _stop_words(language: str) -> frozenset[str]:
    return frozenset(table("stop_words")[language].split()) - set(_KEPT[language].split())


def _drop_stop_words(text: str, language: str) -> list[Site]:
    sites = []
    for one in words(text, language):
        if one.text.lower() in _stop_words(language):
            start, end = one.start, one.end
            while text[end : end + 1].isspace():
                end += 1
            while end == one.end and start and text[start - 1].isspace():
                start -= 1
            sites.append(Site(start, end, ("",)))
    return sites


@cache
def _names(language: str) -> tuple[regex.Pattern[str], dict[str, tuple[str, ...]]]:
    """A pattern of all names of territories and languages, and for each name those in other languages."""
    own, others = Locale.parse(language), [Locale.parse(x) for x in _MIXED_IN if x != language]
    others = others if language == "en" else others[:1]
    found = {}
    for of in ("territories", "languages"):
        for code, name in getattr(own, of).items():
            new = tuple(dict.fromkeys(x for one in others if (x := getattr(one, of).get(code)) and x != name))
            if new and len(name) >= (2 if language in ("ja", "ko", "zh") else 4) and not name.isdigit():
                found[name] = new
    longest = sorted(found, key=len, reverse=True)
    edge = "" if language in WITHOUT_SPACES else r"\b"
    return regex.compile(edge + "(?:" + "|".join(map(regex.escape, longest)) + ")" + edge), found


def _code_mixing(text: str, language: str) -> list[Site]:
    pattern, names = _names(language)
    return [Site(match.start(), match.end(), names[match[0]]) for match in pattern.finditer(text)]


@cache
def code_switching(file: str) -> Perturbation:
    """Replaces words by translations from a lexicon: lines of language, word and translation, separated by tabs.

    A word may have several lines. Case is ignored.

    Raises:
        ValueError: the file cannot be read, or a line has another form.
    """
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the lexicon {file} cannot be read ({error}): name a file of tab-separated lines") from error
    for number, line in enumerate(lines, 1):
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"{file}:{number} must be language, word and translation, between tabs: {line[:80]!r}")
        of = found.setdefault(parts[0], {})
        of[parts[1].lower()] = (*of.get(parts[1].lower(), ()), parts[2])

    def sites(text: str, language: str) -> list[Site]:
        asked = found.get(language, {})
        known = [(one, [x for x in asked.get(one.text.lower(), ()) if x != one.text]) for one in words(text, language)]
        return [Site(one.start, one.end, options) for one, options in known if options]

    return Perturbation(
        sites=sites, unit="words of the lexicon", about="the word in another language", languages=frozenset(found)
    )


def _romanise(text: str, language: str) -> list[Site]:
    """Words in Latin letters; with a space after those of a script without spaces."""
    sites = []
    for one in words(text, language):
        if (new := romanised(one.text, language)) and new != one.text:
            apart = " " if language in WITHOUT_SPACES and regex.match(r"\p{L}", text[one.end :]) else ""
            sites.append(Site(one.start, one.end, (new + apart,)))
    return sites


@cache
def _latin(language: str) -> dict[str, str]:
    """Latin letters by letter."""
    return table("romanised") | table("chinese").get(f"{language}_romanised", {}) | _READ


def romanised(word: str, language: str) -> str:
    """A word in Latin letters, letter by letter; "" if one of its letters has none."""
    own = _latin(language)
    word = regex.sub("([เแโใไ])([ก-ฮ])", r"\2\1", word)  # written before the consonant, spoken after it
    found = []
    for n, c in enumerate(word):
        if "가" <= c <= "힣":
            (first, rest) = divmod(ord(c) - 0xAC00, 588)
            found += [part.split(" ")[i] for part, i in zip(_JAMO, (first, *divmod(rest, 28)), strict=True)]
            continue
        parts = decomposed(c) if c not in own else c
        if any(part not in own and not part.isascii() and not unicodedata.combining(part) for part in parts):
            return ""
        found += [own.get(part, part if part.isascii() else "") for part in parts]
        if (vowel := _INHERENT.get(script(c))) and unicodedata.category(c) == "Lo" and _has_inherent_vowel(word, n):
            found.append(vowel)
    text = "".join(found).replace("_", "").replace("`", "").replace("'", "")
    return text if text.strip() else ""


def _has_inherent_vowel(word: str, n: int) -> bool:
    """Whether a letter of an Indic script is a consonant that is spoken with a vowel that is not written."""
    consonant = _CONSONANT.match(word[n]) is not None
    rest = word[n + 1 :].lstrip("\u093c\u09bc").partition("-")[0]
    followed = (
        bool(rest) and unicodedata.category(rest[0])[0] == "M" and rest[0] not in "\u0902\u0901\u0982\u0981\u0c02"
    )
    last = not rest and script(word[n]) != "TELUGU"  # at the end of a word it is silent in Hindi and Bengali
    return consonant and not followed and not last


WORD_ORDER = Perturbation(
    sites=_word_order,
    unit="pairs of neighbouring words",
    about="two words in the wrong order; words of th, zh and ja are those of a model",
    languages=frozenset(table("alphabets")) - {"km"} | {"ko"},
)
STOP_WORDS = Perturbation(
    sites=_drop_stop_words,
    unit="stop words",
    about="left out; question words and negations stay",
    languages=frozenset(_KEPT),
)
CODE_MIXING = Perturbation(
    sites=_code_mixing,
    unit="names of territories and languages",
    about="the English name; for English text, the Spanish, French or German one",
    languages=frozenset(table("alphabets")) | {"ko"},
)
ROMANISE = Perturbation(
    sites=_romanise,
    unit="words in another script than Latin",
    about="in Latin letters, letter by letter: rough for th and for ar and fa, whose vowels are not written",
    languages=_NON_LATIN,
)
