"""Typing errors: a neighbouring key, and errors of the input methods for Chinese, Japanese and Vietnamese."""

from functools import cache

from hybridir.perturbations.letters import coded_as, decomposed, letters, like, table
from hybridir.perturbations.perturbation import Perturbation, Site

_INITIAL = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
_VOWEL = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
_FINAL = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_ROWS = {
    "": "あいうえお", "k": "かきくけこ", "s": "さしすせそ", "t": "たちつてと", "n": "なにぬねの", "h": "はひふへほ",
    "m": "まみむめも", "r": "らりるれろ", "g": "がぎぐげご", "z": "ざじずぜぞ", "d": "だぢづでど", "b": "ばびぶべぼ",
    "p": "ぱぴぷぺぽ",
}  # fmt: skip
_TONES = "\u0300\u0301\u0303\u0309\u0323"


def _keyboard(text: str, language: str) -> list[Site]:
    near = table("keyboards").get(language, {})
    sites = []
    for one in letters(text):
        found = [one.text[:n] + other + one.text[n + 1 :] for n, c in enumerate(one.text) for other in near.get(c, "")]
        if language == "ko" and len(one.text) == 1 and "가" <= one.text <= "힣":
            found = _korean(one.text, near)
        if found:
            sites.append(Site(one.start, one.end, tuple(found)))
    return sites


def _korean(syllable: str, near: dict[str, str]) -> list[str]:
    """The syllable with one letter replaced by that of a neighbouring key: consonant by consonant, vowel by vowel."""
    (first, rest), parts = divmod(ord(syllable) - 0xAC00, 588), (_INITIAL, _VOWEL, _FINAL)
    places = [first, *divmod(rest, 28)]
    found = []
    for n, part in enumerate(parts):
        for other in near.get(part[places[n]], ""):
            if other in part:
                new = [*places[:n], part.index(other), *places[n + 1 :]]
                found.append(chr(0xAC00 + new[0] * 588 + new[1] * 28 + new[2]))
    return found


def _input_method(text: str, language: str) -> list[Site]:
    of = {"zh": lambda c: homophones("zh").get(c, ""), "ja": _japanese, "vi": _telex}[language]
    return [Site(one.start, one.end, tuple(found)) for one in letters(text) if (found := of(one.text))]


@cache
def homophones(language: str) -> dict[str, str]:
    """For each character, those that sound the same (zh: tone included; ja: by the first Sino-Japanese reading)."""
    groups = table("chinese")[f"{language}_homophones"]
    return {c: "".join(other for other in group if other != c) for group in groups for c in group}


def _japanese(cluster: str) -> list[str]:
    """For a kanji, those of the same reading; for a kana, those that one neighbouring key makes of its romanisation."""
    return list(homophones("ja").get(cluster) or _kana().get(cluster, ""))


@cache
def _kana() -> dict[str, str]:
    near = {key: others for key, others in table("keyboards")["en"].items() if key.islower()}
    found: dict[str, str] = {}
    for key, row in _ROWS.items():
        for n, kana in enumerate(row):
            other_rows = [_ROWS[o][n] for o in near.get(key, "") if o in _ROWS]
            vowels = ["aiueo".index(v) for v in near["aiueo"[n]] if v in "aiueo"]
            found[kana] = "".join(other_rows + [row[v] for v in vowels])
    katakana = str.maketrans({chr(n): chr(n + 0x60) for n in range(0x3041, 0x3097)})
    return found | {k.translate(katakana): v.translate(katakana) for k, v in found.items()}


def _telex(cluster: str) -> list[str]:
    """A letter without its tone, or without its other mark: in Telex each is a key of its own."""
    if cluster in "đĐ":
        return [like("d", cluster, "vi")]
    marks = decomposed(cluster)
    tone, shape = (any(c in _TONES for c in marks[1:]), any(c not in _TONES for c in marks[1:]))
    without = []
    if tone:
        without.append("".join(c for c in marks if c not in _TONES))
    if shape:
        without.append(marks[0] + "".join(c for c in marks[1:] if c in _TONES))
    return [coded_as(one, cluster) for one in without]


KEYBOARD = Perturbation(
    sites=_keyboard,
    unit="letters that have a key",
    about="a neighbouring key, at the same shift level; ko: for a letter of a syllable; vi, yo: for plain letters only."
    " Not for zh, ja and am, which are typed by an input method",
    languages=frozenset(table("keyboards")),
)
INPUT_METHOD = Perturbation(
    sites=_input_method,
    unit="characters that take several keys",
    about="zh: a character of the same sound; ja: of the same reading, a kana with one key wrong; vi: a mark not typed",
    languages=frozenset({"ja", "vi", "zh"}),
)
