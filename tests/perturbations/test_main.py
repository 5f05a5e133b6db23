"""The command that shows what a kind does, and the page of all of them."""

from pathlib import Path

import pytest

from hybridir.perturbations import PERTURBATIONS
from hybridir.perturbations.__main__ import main
from hybridir.reports.noise_gallery import write_gallery


def test_the_command_shows_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--language", "hi", "--kind", "nukta", "--draws", "1", "बड़ा"])
    assert capsys.readouterr().out == "nukta: the dot below is left out (edited: nuktas)\n  बडा\n"
    main(["--language", "en", "--kind", "zero_width", "--draws", "1", "to"])
    assert capsys.readouterr().out.splitlines()[1] in {"  t[ZWSP]o", "  t[SHY]o", "  t[ZWNJ]o"}
    main(["--language", "te", "కి"])
    assert "  కి  (unchanged)" in capsys.readouterr().out


def test_what_the_command_refuses() -> None:
    with pytest.raises(ValueError, match="keyboard does not apply to zh: it is for ar, bn"):
        main(["--language", "zh", "--kind", "keyboard", "中"])
    for severity in ("2", "much"):
        with pytest.raises(ValueError, match=f"--severity is {severity}"):
            main(["--language", "en", "--severity", severity, "a"])


def test_the_gallery_has_every_kind(tmp_path: Path) -> None:
    page = write_gallery(tmp_path).read_text(encoding="utf-8")
    assert all(f'<h2 id="{kind}">' in page for kind in PERTURBATIONS)
    assert "Does not apply to Amharic, Arabic" in page
    assert '<bdi lang="zh" dir="auto">日本的<mark>' in page
