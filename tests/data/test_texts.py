"""What a reader sees of a text: the short ways give what the definition gives."""

import random
import re
import sys
import unicodedata

import pytest
import regex

from hybridir.data.texts import _FORMS, _INVISIBLE, as_read, fault, is_blank, same_as


def by_definition(text: str) -> str:
    forms = re.sub(f"[{_FORMS}]", lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return " ".join(unicodedata.normalize("NFC", re.sub(f"[{_INVISIBLE}]", "", forms)).split())


@pytest.mark.parametrize("around", ["é{} x", "e{}\u0301"])
def test_every_character_is_read_as_defined(around: str) -> None:
    for code in (*range(0x3400), *range(0xA000, 0xAC00), *range(0xD800, 0x1_2000), *range(0xE_0000, 0xE_1001)):
        text = around.format(chr(code))
        assert as_read(text) == by_definition(text), f"U+{code:04X}"


def test_texts_of_many_scripts_are_read_as_defined() -> None:
    draw = random.Random(1)
    letters = "\ufb01 fi \ufe8f\u0628 \ufe70"
    letters += "ab é e\u0301 ё ת شَ \u200b\u200c\u00ad\u00a0\u3000\n\tक़ क\u093c 각\u1100\u1161\u11a8\ufe0f\u3164 1"
    texts = ["".join(draw.choices(letters, k=draw.randrange(6))) for _ in range(3000)]
    for text in texts:
        assert as_read(text) == by_definition(text)
    for one, other in zip(texts, texts[1:] + texts[:1], strict=True):
        expected = [by_definition(one) == by_definition(other), True]
        assert list(same_as(one, [other, by_definition(one)])) == expected


def test_faults_are_found_in_every_kind_of_text() -> None:
    for text in ("", "é", "é\n", "\u200b", "\U0001f600", "क़"):
        assert fault(text) is None
        assert fault(f"{text}\ud83d")[0] == "unpaired surrogate"  # type: ignore[index]
        assert fault(f"{text}\0")[0] == "NUL byte"  # type: ignore[index]


def test_what_unicode_calls_ignorable_is_not_seen() -> None:
    every = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    assert is_blank("".join(regex.findall(r"\p{Default_Ignorable_Code_Point}", every)))


@pytest.mark.parametrize(
    ("shown", "plain"),
    [
        ("o\ufb03ce", "office"),
        ("\ufe91\ufef4\ufe96", "\u0628\u064a\u062a"),
        ("\ufefb", "\u0644\u0627"),
        ("\U0001bca0x", "x"),
    ],
)
def test_ligatures_and_forms_are_read_as_letters(shown: str, plain: str) -> None:
    assert as_read(shown) == plain
    assert list(same_as(shown, [plain])) == [True]
    assert as_read("x\xb2") != "x2"
