"""One language is one code, whichever way it is spelled."""

import pytest
from babel import Locale

from hybridir.data.languages import by_code, code_of, is_known, remedy

ONE_CODE = {
    "zh": "zh zh-CN zh-Hans zh_Hans_CN zho_Hans cmn_Hans zh-cmn-Hans chi",
    "zh_Hant": "zh-Hant zh-TW zho_Hant zh-Hant-TW",
    "en": "en en-US eng_Latn EN en-Latn-US",
    "en_GB": "en-GB en-UK",
    "pt": "pt pt-BR por_Latn",
    "pt_PT": "pt-PT",
    "es": "es es-ES spa",
    "es_419": "es-419",
    "ja": "ja ja-JP jpn_Jpan",
    "ko": "ko ko-KR kor_Hang kor",
    "fil": "fil tl tgl_Latn",
    "sr": "sr srp_Cyrl sr-RS sr-CS",
    "sr_Latn": "sh hbs sr-Latn sr-Latn-RS",
    "sr_ME": "sr-ME cnr",
    "fa_AF": "prs_Arab fa-AF",
    "yue": "yue zh-yue yue_Hant zh-yue-HK",
    "ar": "ar arb_Arab ar-arb ar-EG",
    "ks": "ks kas_Arab",
    "ks_Deva": "kas_Deva",
    "he": "he iw heb_Hebr",
    "no": "no nor",
    "nb": "nb nob_Latn nb-NO",
    "und": "und",
}
"""Code -> tags. The likely subtags are those of CLDR's likelySubtags.xml: zh_Hans_CN, sr_Cyrl_RS, pt_Latn_BR, ..."""


@pytest.mark.parametrize("code", ONE_CODE)
def test_the_spellings_of_a_language_are_one_code(code: str) -> None:
    assert {code_of(tag) for tag in ONE_CODE[code].split()} == {code}
    assert is_known(code)


def test_codes_of_cldr_and_of_benchmarks_are_known() -> None:
    codes = [code_of(code) for code in Locale.parse("en").languages]
    assert all(map(is_known, codes))
    assert [code_of(code) for code in codes] == codes
    miracl_xquad_r_and_mlqa_r = "ar bn de el en es fa fi fr hi id ja ko ru sw te th tr vi yo zh"
    assert " ".join(map(code_of, miracl_xquad_r_and_mlqa_r.split())) == miracl_xquad_r_and_mlqa_r


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("es-AR", "es"),
        ("zh-SG", "zh"),
        ("zh-HK", "zh_Hant"),
        ("sr-Latn-BA", "sr_Latn"),
        ("zh-yue-US", "yue"),
        ("uz-Arab-IR", "uz_Arab"),
    ],
)
def test_a_tag_that_is_unknown_names_the_code_of_its_language_and_script(tag: str, code: str) -> None:
    assert (code_of(tag), is_known(tag), remedy(tag)) == (tag, False, f"write {code}")


@pytest.mark.parametrize("tag", ["xx", "english", "de-yue", "en_Abcd", "", "e", "en-", "acm_Arab", "de" * 40])
def test_what_is_no_language_of_cldr_stays_as_it_is(tag: str) -> None:
    assert (code_of(tag), is_known(tag)) == (tag, False)


def test_two_spellings_of_one_language_are_refused() -> None:
    assert by_code(["zh-TW", "deu"], "x") == {"de": "deu", "zh_Hant": "zh-TW"}
    with pytest.raises(ValueError, match="x has the language pt twice, as pt and pt_BR"):
        by_code(["pt", "de", "pt_BR"], "x")
