"""The picture of a run: one SVG file with the colours that its numbers have."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from test_pages import full

from hybridir.reports.html.plots import VIRIDIS
from hybridir.reports.picture import main

SVG = "{http://www.w3.org/2000/svg}"


def write(folder: Path, results: dict) -> Path:
    results["systems"]["untrained"] = results["systems"].pop("BM25")
    lines = [{"step": n, "time": 0.0, "attempt": 1, "loss": 2.0 - n / 10, "kind": "mono"} for n in range(5)]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def test_the_colours_are_those_of_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = full() | {"per_pair": {"ar-ar": {"mAP": 0.4}, "ar-en": {"mAP": 0.8}, "en-en": {"mAP": 0.6}}}
    results["systems"]["BM25"]["per_pair"] = {"ar-ar": {"mAP": 0.5}}
    main([str(write(tmp_path, results)), str(tmp_path / "out.svg")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out.svg")
    root = ET.parse(tmp_path / "out.svg").getroot()
    cells = {}
    for n, group in enumerate(root.findall(f"{SVG}g")[:2]):
        cells |= {(n, cell[0].text): cell.get("fill") for cell in group.iter(f"{SVG}rect")}
    # the axis goes from 0.4 to 0.8, over nine colours
    assert cells == {
        (0, "ar → ar: mAP 0.500"): VIRIDIS[2],
        (1, "ar → ar: mAP 0.400"): VIRIDIS[0],
        (1, "ar → en: mAP 0.800"): VIRIDIS[8],
        (1, "en → en: mAP 0.600"): VIRIDIS[4],
    }
    text = "".join(root.itertext())
    assert "before training: cross-lingual mAP 0.600" in text
    assert "after: cross-lingual mAP 0.712" in text
    assert "train, mono" in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"url\(|@import|href", (tmp_path / "out.svg").read_text(encoding="utf-8"))


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"has no results\.json: name the output folder"):
        main([str(tmp_path), "out.svg"])
    with pytest.raises(ValueError, match="not measured with questions and passages of several languages"):
        main([str(write(tmp_path, full() | {"languages": ["en"]})), str(tmp_path / "out.svg")])
