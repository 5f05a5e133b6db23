"""Families of translation models: how a model is told its languages, and the licence of its weights.

- M2M-100 (Fan et al. 2021, arXiv 2010.11125) and NLLB-200 (NLLB Team 2022, arXiv 2207.04672): the input begins with the
  token of the source language, and the output with that of the target language.
- MADLAD-400 (Kudugunta et al. 2023, arXiv 2309.04662): a T5 whose input begins with the token of the target language.

Language codes are those of CLDR. A model's own code is found by the aliases and likely scripts of CLDR.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from babel.core import get_global


@dataclass(frozen=True)
class Family:
    """What models of a family have in common.

    Attributes:
        hub: how the hub ids of its models begin.
        token: the token of a language, in which `{}` stands for its code.
        codes: a code of CLDR -> the codes that the models may know it by, the most likely first.
        source_first: whether the input begins with the source language's token (otherwise with the target's).
        license: SPDX id of the weights' licence.
        commercial: whether that licence permits commercial use.
    """

    hub: str
    token: str
    codes: Callable[[str], list[str]]
    source_first: bool
    license: str
    commercial: bool = True


_NLLB = {
    **{"ps": "pbt", "nb": "nob", "no": "nob", "sq": "als", "om": "gaz", "et": "est", "yi": "ydd", "ff": "fuv"},
    **{"ku": "kmr", "qu": "quy", "ay": "ayr", "gn": "grn", "kr": "knc", "lv": "lvs", "mg": "plt", "ak": "aka"},
    **{"fa_AF": "prs", "fil": "tgl"},
}
"""Codes of NLLB-200 that are not among the aliases of CLDR, or not the first of them."""
_SCRIPTS = {"Kore": "Hang"}


def aliases(code: str) -> Iterator[str]:
    """Other codes of a language, of ISO 639-2 and 639-3, which CLDR replaces by `code`."""
    return (old for old, new in get_global("language_aliases").items() if new == code)


def _main(code: str) -> str:
    return code.replace("-", "_").partition("_")[0]


def _plain(code: str) -> list[str]:
    code, main = code.replace("-", "_"), _main(code)
    if _script(code) != _script(main):  # such as zh_Hant: the main code would give another script
        return [code]
    return [code, main, *aliases(main), *({"nso": ["ns"], "nb": ["no"]}.get(main, []))]


def _script(code: str) -> str:
    """The script in a code, else the likely one."""
    named = next((part for part in code.split("_")[1:] if len(part) == 4), "")
    subtags = get_global("likely_subtags")
    return named or subtags.get(code, subtags.get(_main(code), "_Latn")).split("_")[1]


def _with_script(code: str) -> list[str]:
    code, main = code.replace("-", "_"), _main(code)
    script = _script(code)
    names = [_NLLB.get(code) or _NLLB.get(main), main, *aliases(main)]
    return [f"{name}_{_SCRIPTS.get(script, script)}" for name in names if name and len(name) == 3]


FAMILIES: dict[str, Family] = {
    "madlad-400": Family("google/madlad400", "<2{}>", _plain, source_first=False, license="Apache-2.0"),
    "m2m-100": Family("facebook/m2m100", "__{}__", _plain, source_first=True, license="MIT"),
    "nllb-200": Family(
        "facebook/nllb-200", "{}", _with_script, source_first=True, license="CC-BY-NC-4.0", commercial=False
    ),
}


def family_name(model: str, named: str) -> str:
    """The family of a model: `named`, else the one whose hub ids begin like `model`; `ValueError` if there is none."""
    if named and named not in FAMILIES:
        raise ValueError(f"model.family {named!r} is unknown; there are {', '.join(FAMILIES)}")
    found = named or next((name for name, family in FAMILIES.items() if model.startswith(family.hub)), "")
    if not found:
        raise ValueError(
            f"model.name {model!r} does not say which family the model is of: name it by model.family, one of "
            f"{', '.join(FAMILIES)}"
        )
    return found


def language_id(tokenizer: Any, family: str, language: str) -> int:
    """The id of a language's token; `ValueError` if the tokenizer has none."""
    tokens = [FAMILIES[family].token.format(code) for code in FAMILIES[family].codes(language)]
    for token in tokens:
        number = tokenizer.convert_tokens_to_ids(token)
        if number is not None and number != tokenizer.unk_token_id:
            return int(number)
    raise ValueError(
        f"the translation model does not know the language {language!r} (looked for {', '.join(tokens)}): leave it out "
        "of languages, or take another model"
    )
