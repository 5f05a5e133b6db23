"""Words by their translations in a lexicon."""

from pathlib import Path

import pytest

from hybridir.batches.sampling import Noise
from hybridir.perturbations.phrases import code_switching
from hybridir.runtime.random_numbers import uniform_numbers


@pytest.fixture
def lexicon(tmp_path: Path) -> str:
    lines = ["en\tcapital\tcapitale", "en\tItaly\tItalia", "en\tItaly\tItalien", "en\twhat\tWhat", "zh\t首都\tcapital"]
    (tmp_path / "words.tsv").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "words.tsv")


def test_words_of_the_lexicon_are_translated(lexicon: str) -> None:
    kind = code_switching(lexicon)
    found = {kind.apply("What is the CAPITAL of Italy?", "en", uniform_numbers(n, 0, 0), 1) for n in range(40)}
    assert found == {"What is the capitale of Italia?", "What is the capitale of Italien?"}
    half = [kind.apply("the capital of Italy", "en", uniform_numbers(n, 0, 0), 0.5) for n in range(400)]
    changed = sum(("capitale" in text) + ("Italy" not in text) for text in half)
    assert changed == 400  # one of two words each time: the share is exact where severity x sites is whole
    assert (kind.applies("zh_Hant"), kind.applies("de")) == (True, False)


def test_it_is_code_mixing_of_training(lexicon: str, tmp_path: Path) -> None:
    noise = Noise(probability=1, kinds=("delete", "code_mixing"), lexicon=lexicon)
    assert noise.kinds_in("en") == ["delete", "code_mixing"]
    assert noise.kinds_in("de") == ["delete"]
    assert Noise(kinds=("delete", "code_mixing")).kinds_in("de") == ["delete", "code_mixing"]
    with pytest.raises(ValueError, match="which only code_mixing uses: add it to the kinds"):
        Noise(lexicon=lexicon)
    (tmp_path / "bad.tsv").write_text("en\ta\tb\nen a b\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bad\.tsv:2 must be language, word and translation, between tabs: 'en a b'"):
        code_switching(str(tmp_path / "bad.tsv"))
    with pytest.raises(ValueError, match=r"the lexicon .*gone cannot be read"):
        code_switching(str(tmp_path / "gone"))
