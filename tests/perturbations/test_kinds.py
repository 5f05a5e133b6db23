"""What holds for every kind of noise in every language, and results derived by hand for each kind."""

import hashlib
import random
import unicodedata
from itertools import pairwise

import pytest
import regex

from hybridir.perturbations import PERTURBATIONS
from hybridir.perturbations.letters import letters, table, words
from hybridir.perturbations.perturbation import Site, choose, edit
from hybridir.perturbations.phrases import romanised
from hybridir.runtime.random_numbers import uniform_numbers

TEXTS: dict[str, str] = table("examples")
CELLS = [(kind, language) for kind, one in PERTURBATIONS.items() for language in TEXTS if one.applies(language)]
OTHER_SCRIPT = {"homoglyph", "romanise", "code_mixing"}
"""Kinds that bring in another script."""


def noisy(kind: str, language: str, severity: float | str, item: int = 0, text: str = "") -> str:
    rng = uniform_numbers(7, 1, 3, item)
    return PERTURBATIONS[kind].apply(text or TEXTS[language], language, rng, severity)  # type: ignore[arg-type]


def results(kind: str, language: str, text: str) -> set[str]:
    """All texts that one edit can make."""
    one = PERTURBATIONS[kind]
    changed = one.first(text, language) if one.first else text
    return {edit(changed, [(site, new)]) for site in one.sites(changed, language) for new in site.options}


def scripts(text: str) -> set[str]:
    return {script for script in SCRIPTS if regex.search(rf"\p{{Script={script}}}", text)}


SCRIPTS = ["Arabic", "Bengali", "Cyrillic", "Devanagari", "Ethiopic", "Greek", "Han", "Hangul", "Hiragana", "Katakana",
           "Khmer", "Latin", "Telugu", "Thai"]  # fmt: skip


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_what_holds_for_every_kind_in_every_language(kind: str) -> None:
    for language in (language for of, language in CELLS if of == kind):
        text = TEXTS[language]
        assert noisy(kind, language, 0.0) == text
        assert noisy(kind, language, 0.3) == noisy(kind, language, 0.3)
        found = [noisy(kind, language, severity, item) for severity in (0.1, 0.5, 1.0, "one") for item in range(8)]
        for new in found:
            assert new.strip()
            new.encode()  # no half surrogates
            assert all(unicodedata.category(c) != "Cn" for c in new), new
            if kind not in OTHER_SCRIPT:
                allowed = scripts(text) | ({"Hiragana", "Katakana", "Han"} if language == "ja" else set())
                assert scripts(new) <= allowed, (language, new)
            assert digits(new) >= digits(text) or kind == "word_order", (language, new)


def digits(text: str) -> set[str]:
    return set(regex.findall(r"\p{N}+", text))


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_sites_change_the_text_and_severities_nest(kind: str) -> None:
    one = PERTURBATIONS[kind]
    for language in (language for of, language in CELLS if of == kind):
        text = one.first(TEXTS[language], language) if one.first else TEXTS[language]
        sites = one.sites(text, language)
        for site in sites:
            assert site.options, (language, site)
            assert text[site.start : site.end] not in site.options, (language, site)
            assert not site.weights or len(site.weights) == len(site.options)
        for item in range(10):
            few, more = (choose(sites, uniform_numbers(0, 0, 0, item), s, one.edits_per_site) for s in (0.2, 0.6))
            assert few == more[: len(few)]
            spans = sorted(site[:2] for site, _ in more)
            assert all(a[1] <= b[0] for a, b in pairwise(spans)), spans


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_requested_and_measured_rates_agree(kind: str) -> None:
    """Over many draws the mean number of edits is severity * sites, where few enough overlap."""
    one, severity, n = PERTURBATIONS[kind], 0.1, 60
    for language in (language for of, language in CELLS if of == kind):
        text = one.first(TEXTS[language], language) if one.first else TEXTS[language]
        sites = one.sites(text, language)
        expected = severity * len(sites) * one.edits_per_site
        edits = [len(choose(sites, uniform_numbers(1, 0, 0, k), severity, one.edits_per_site)) for k in range(n)]
        assert {*edits} <= {int(expected), int(expected) + 1}
        # floor(expected + u): a Bernoulli number around it, so 6 standard errors are at most 6 * 0.5 / sqrt(n)
        assert abs(sum(edits) / n - expected) < 3 / n**0.5
        if sites:
            changed = one.apply(TEXTS[language], language, uniform_numbers(1, 0, 0, 0), "one")
            assert changed != TEXTS[language]


def test_severity_of_asr_is_the_word_error_rate() -> None:
    """Measured by the edit distance of words, over 400 questions in 4 languages."""
    for language in ("de", "en", "ru", "es"):
        clean = PERTURBATIONS["asr"].first(TEXTS[language], language).split()  # type: ignore[misc]
        found = [noisy("asr", language, 0.15, item).split() for item in range(400)]
        rate = sum(distance(clean, new) for new in found) / (400 * len(clean))
        # a question's errors are 0.15 * 7 or more with a spread below 1.1: 4 standard errors are 4 * 1.1 / 20 errors,
        # and words that cannot be split, or stand last, shift the mean of errors per edit by at most a tenth
        assert abs(rate - 0.15) < 0.22 / len(clean) + 0.015, (language, rate)


def distance(old: list[str], new: list[str]) -> int:
    row = list(range(len(new) + 1))
    for i, a in enumerate(old, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(new, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


PIECES = [
    *(
        "",
        " ",
        "\n",
        "a",
        "B",
        "é",
        "e\u0301",
        "ß",
        "ﬁ",
        "İ",
        "ı",
        "\u0301",
        "\u200d",
        "\u200c",
        "👩‍👩‍👧",
        "🇩🇪",
        "7",
        "٣",
    ),
    *("½", ".", "؟", "ﷺ", "ا", "لا", "مُ", "ש", "हि", "न्दी", "्", "ি", "కె", "ก็", "เ", "น้ำ", "한", "ㄱ", "\u1112\u1161"),
    *("日", "々", "か\u3099", "ー", "ሀ", "្ត", "\u202e", "\ufeff", "\U00020000", "ǅ", "Σ", "đ", "ǹ"),
]


def random_texts(n: int) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices(PIECES, k=draw.randrange(1, 12))) for _ in range(n)]


def check_random_texts(cells: list[tuple[str, str]], texts: list[str]) -> None:
    for n, text in enumerate(texts):
        kind, language = cells[n % len(cells)]
        new = noisy(kind, language, (0.3, "one", 1.0)[n % 3], n, text or " ")
        assert bool(new.strip()) == bool(text.strip()), (kind, language, text, new)
        new.encode()


def test_random_texts_make_no_error() -> None:
    check_random_texts(CELLS, random_texts(10_000))


@pytest.mark.slow
@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_random_texts_make_no_error_in_every_kind(kind: str) -> None:
    check_random_texts([cell for cell in CELLS if cell[0] == kind], random_texts(10_000))


@pytest.mark.parametrize(
    ("kind", "language", "text", "expected"),
    [
        ("insert", "sw", "a", {f"a{c}" for c in "abdefghijklmnoprstuvwyz"}),
        ("substitute", "el", "ά", set("αβγδεζηθικλμνξοπρςστυφχψωέήίϊΐόύϋΰώ")),
        ("swap", "en", "The 12", {"Hte 12", "Teh 12"}),
        ("swap", "tr", "İs", {"Si"}),  # the small letter of İ is i, with its dot
        ("keyboard", "en", "q", {"w", "a"}),
        ("keyboard", "de", "ö", {"l", "p", "ä"}),
        ("keyboard", "fr", "q", {"a", "s", "w"}),
        ("keyboard", "ru", "Й", {"Ц", "Ф"}),
        ("keyboard", "ko", "가", {"다", "사", "라"} | {"갸", "거", "기", "그"}),
        ("keyboard", "vi", "ộ", set()),  # its marks are keys of their own
        ("input_method", "vi", "ộ", {"ô", "ọ"}),
        ("input_method", "vi", "Đ", {"D"}),
        ("input_method", "ja", "か", {"ま"}),  # beside k lie i, j, l, m, o; of these only m begins a row, beside a none
        ("diacritics", "fr", "été", {"eté", "éte"}),
        ("diacritics", "de", "u\u0308", {"u"}),
        ("tone_marks", "vi", "ộ", {"ô", "ồ", "ố", "ỗ", "ổ"}),
        ("tone_marks", "th", "ก่", {"ก", "ก้", "ก๊", "ก๋"}),
        ("tone_marks", "th", "น้ำ", {"นำ", "น่ำ", "น๊ำ", "น๋ำ"}),
        ("tone_marks", "yo", "ọ\u0301", {"ọ", "ọ\u0300", "ọ\u0304"}),
        ("turkish_i", "tr", "iI", {"ıI", "iİ"}),
        ("arabic_letters", "ar", "مدرسة", {"مدرسه"}),
        ("arabic_letters", "ar", "الأول", {"الاول"}),
        ("arabic_letters", "fa", "می\u200cشود", {"مي\u200cشود", "میشود", "می شود"}),
        ("arabic_dots", "ar", "بن", {"تن", "ثن"}),
        ("harakat", "ar", "مُ", {"م"}),
        ("harakat", "ar", "م", {"مَ", "مُ", "مِ"}),
        ("matra", "hi", "कि", {"की", "क"}),
        ("matra", "te", "ఇ", {"ఈ"}),
        ("nukta", "hi", "ड़", {"ड"}),
        ("nukta", "hi", "\u095c", {"ड"}),
        ("virama", "hi", "न्द", {"नद"}),
        ("thai_order", "th", "แก", {"เก", "เเก"}),
        ("thai_order", "th", "นี้", {"น้ี"}),
        ("shapes", "zh", "未", {"来", "末"}),
        ("traditional", "zh", "国", {"國"}),
        ("traditional", "zh", "國", {"国"}),
        ("homoglyph", "ru", "с", {"c"}),
        ("ocr", "en", "rn", {"m"}),
        ("lower", "tr", "İI", {"iI", "İı"}),
        ("upper", "de", "ß", set()),
        ("case", "el", "Αα", {"αα", "ΑΑ"}),
        ("punctuation", "en", "a 1.5?", {"a 1.5", "a 1.5??"}),
        ("punctuation", "ar", "ما هي", {"ما، هي"}),
        ("missing_space", "en", "to be 1", {"tobe 1"}),
        ("extra_space", "th", "กิน", {"กิ น"}),
        ("zero_width", "hi", "का न", set()),
        ("zero_width", "zh", "日本", {"日\u200b本", "日\u00ad本", "日\u200c本"}),
        ("romanise", "ru", "мир 1", {"mir 1"}),
        ("romanise", "hi", "नमक", {"namak"}),  # the vowel of a consonant is spoken, but not that of the last
        ("romanise", "hi", "कौन-सी", {"kaun-si"}),
        ("romanise", "ko", "한국", {"hanguk"}),
        ("romanise", "th", "ไทย", {"thaiy"}),  # the vowel is written before its consonant
        ("word_order", "en", "Who is, he", {"is Who, he"}),
        ("word_order", "zh", "日本的货币", {"的日本货币", "日本货币的"}),
        ("stop_words", "en", "What is the time", {"What the time", "What is time"}),  # What is a question word
        ("code_mixing", "de", "in Japan, Österreich", {"in Japan, Austria"}),
        ("code_mixing", "ja", "日本へ", {"Japanへ"}),
        ("asr", "zh", "货，", set("或祸惑获") | {"", "霍", "貨"}),
    ],
)  # fmt: skip
def test_one_edit(kind: str, language: str, text: str, expected: set[str]) -> None:
    found = results(kind, language, text)
    if kind == "asr":
        assert "" in found
        assert found & expected > {""}
    else:
        assert found == expected


def test_asr_drops_capitals_and_punctuation_and_keeps_numbers() -> None:
    assert noisy("asr", "en", 1e-9, text="It's Mr. O'Neill, 3.5%?") == "it's mr o'neill 3.5"
    assert noisy("asr", "tr", 1e-9, text="IŞIK İl") == "ışık il"
    assert noisy("asr", "en", 1e-9, text="?!") == "?!"


def test_words_of_languages_without_spaces() -> None:
    """The pieces that BudouX 0.10.1 makes with the same models."""
    assert [one.text for one in words("日本の通貨は何ですか？", "ja")] == [
        "日",
        "本",
        "の",
        "通貨",
        "は",
        "何",
        "ですか",
    ]
    assert [one.text for one in words("货币是什么，首都", "zh")] == ["货币", "是", "什么", "首", "都"]
    thai = ["ประเทศ", "ไทย", "ใช้", "เงิน", "สกุล", "อะไร", "บาท"]
    assert [one.text for one in words("ประเทศไทยใช้เงินสกุลอะไร 12 บาท", "th")] == thai


def test_letters_are_clusters_without_digits() -> None:
    assert [one.text for one in letters("é e\u0301 1 ½ हि न्दी 👩‍👩‍👧!")] == ["é", "e\u0301", "हि", "न्दी"]


def test_edits_of_overlapping_sites_take_one_of_them() -> None:
    sites = [Site(0, 2, ("x",)), Site(1, 3, ("y",)), Site(2, 2, ("z",))]
    for item in range(20):
        found = edit("abc", choose(sites, uniform_numbers(0, 0, 0, item), 1.0))
        assert found in {"xzc", "ay"}


def test_a_code_with_a_script_counts_as_its_language() -> None:
    assert PERTURBATIONS["shapes"].applies("zh_Hant")
    assert noisy("traditional", "zh_Hant", 1.0, text="國") == "国"


def test_a_word_with_a_letter_that_has_no_latin_one_stays() -> None:
    assert romanised("日\U00020000", "zh") == ""


GOLDEN = {
    "delete": "5c8a5a20d933",
    "insert": "4f550d1683eb",
    "substitute": "8c42b77247e7",
    "swap": "59c47d6809e6",
    "keyboard": "7ae81542142f",
    "input_method": "eba3faf1643e",
    "diacritics": "a41a05988cfd",
    "tone_marks": "927a45922bc3",
    "turkish_i": "ecd00208073a",
    "arabic_letters": "000509b6b051",
    "arabic_dots": "8397dc7c5c59",
    "harakat": "90406a7ecf41",
    "matra": "7c0fa9faa7b9",
    "nukta": "b49e8310e100",
    "virama": "7f82fb1e4d0a",
    "thai_order": "01cd3505f9a0",
    "shapes": "8c424930abcb",
    "traditional": "cb886c1f5d83",
    "homoglyph": "65e5a58995e1",
    "ocr": "f60309568fd9",
    "lower": "bb2cfaaef434",
    "upper": "68debbc17ec9",
    "case": "d6c742970ea0",
    "punctuation": "c9d1d2f01fcf",
    "missing_space": "7ee9b0897760",
    "extra_space": "8e7e54804b25",
    "zero_width": "9eef9987f2d6",
    "romanise": "179fe92e60a0",
    "word_order": "064ddf065a3e",
    "stop_words": "ef59b54d24ab",
    "code_mixing": "d4af7e07ba31",
    "asr": "023b6af7f4e7",
}


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_golden(kind: str) -> None:
    """The texts of a kind are the same in every version: they name the noise that a result was measured under."""
    found = [noisy(kind, language, severity, 1) for of, language in CELLS if of == kind for severity in ("one", 0.3)]
    assert hashlib.sha256("\n".join(found).encode()).hexdigest()[:12] == GOLDEN[kind]
