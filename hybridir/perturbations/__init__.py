"""Noise on texts: the kinds of perturbation by name."""

from typing import TYPE_CHECKING, Literal

from hybridir.perturbations import edits, looks, marks, phrases, speech, surface, typing_errors
from hybridir.perturbations.perturbation import Perturbation

PERTURBATIONS: dict[str, Perturbation] = {
    "delete": edits.DELETE,
    "insert": edits.INSERT,
    "substitute": edits.SUBSTITUTE,
    "swap": edits.SWAP,
    "keyboard": typing_errors.KEYBOARD,
    "input_method": typing_errors.INPUT_METHOD,
    "diacritics": marks.DIACRITICS,
    "tone_marks": marks.TONE_MARKS,
    "turkish_i": marks.TURKISH_I,
    "arabic_letters": marks.ARABIC_LETTERS,
    "arabic_dots": marks.ARABIC_DOTS,
    "harakat": marks.HARAKAT,
    "matra": marks.MATRA,
    "nukta": marks.NUKTA,
    "virama": marks.VIRAMA,
    "thai_order": marks.THAI_ORDER,
    "shapes": looks.SHAPES,
    "traditional": looks.TRADITIONAL,
    "homoglyph": looks.HOMOGLYPH,
    "ocr": looks.OCR,
    "lower": surface.LOWER,
    "upper": surface.UPPER,
    "case": surface.CASE,
    "punctuation": surface.PUNCTUATION,
    "missing_space": surface.MISSING_SPACE,
    "extra_space": surface.EXTRA_SPACE,
    "zero_width": surface.ZERO_WIDTH,
    "romanise": phrases.ROMANISE,
    "word_order": phrases.WORD_ORDER,
    "stop_words": phrases.STOP_WORDS,
    "code_mixing": phrases.CODE_MIXING,
    "asr": speech.ASR,
}

if TYPE_CHECKING:
    Perturbing = str
else:
    Perturbing = Literal[tuple(PERTURBATIONS)]  # so that `--help` lists them
