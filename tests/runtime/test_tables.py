"""Tables: what stands in data is shown, and never read as markup or as a formula."""

import csv
import io

import pytest
from helpers import HOSTILE, live

from hybridir.runtime.tables import Grid, fenced, notes, paragraph, plain, to_csv

MARKUP = {
    "_a_ __b__ c_d": r"\_a\_ \_\_b\_\_ c_d",
    "![x](http://canary/p.png)": r"![x\](http://canary/p.png)",
    "[here](http://canary)": r"[here\](http://canary)",
    "[a]: http://canary": r"[a\]: http://canary",
    "<img src=http://canary>": r"\<img src=http://canary>",
    "</td>": r"\</td>",
    "a | b": r"a \| b",
    r"a \| b": r"a \\\| b",
    "a\n\n# b": "a  # b",
    "`code` **bold** ~~gone~~": r"\`code\` \*\*bold\*\* \~\~gone\~\~",
    "&lt;b&#62;": r"\&lt;b\&#62;",
}


@pytest.mark.parametrize(("text", "written"), MARKUP.items())
def test_markdown_shows_text_as_it_is(text: str, written: str) -> None:
    assert plain(text) == written
    table = Grid("t", ("a", text), [(text, "1")]).to_markdown()
    assert table.splitlines()[2:] == [f"| a | {written} |", "| --- | ---: |", f"| {written} | 1 |"]


@pytest.mark.parametrize(
    "text", ["-0.5", "0.812 [0.80, 0.83]", "p < 0.001", "R@10", "de_CH & fr", "C:\\x", "a > b", "a_b"]
)
def test_what_is_no_markup_stays(text: str) -> None:
    assert plain(text) == text


def test_whatever_text_holds_a_reader_of_markdown_sees_no_more() -> None:
    text = Grid(HOSTILE, (HOSTILE,), [(HOSTILE,)]).to_markdown() + notes([HOSTILE]) + paragraph(HOSTILE)
    assert live(text) == []
    assert live(HOSTILE) == ["#", "http://canary", "http://canary/i", "<img src=//canary>", "##", "http://canary/c"]


def test_notes_are_one_flat_list() -> None:
    found = notes(["# big", "- more", "1. one", "> said", "a\n- b", "2 of 3", "plain"])
    assert found == "- \\# big\n- \\- more\n- 1\\. one\n- \\> said\n- a - b\n- 2 of 3\n- plain\n"


def test_a_fence_is_longer_than_those_inside() -> None:
    assert fenced("a: |\n  ```\n  # b\n", "yaml") == "````yaml\na: |\n  ```\n  # b\n````"


def test_no_cell_is_a_formula() -> None:
    cells = ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "a\rb", "-0.5", "+1e-3", -0.5, "a=b", "", "−1"]
    (read,) = csv.reader(io.StringIO(to_csv([cells]), newline=""))
    assert read == ["'=1+1", "'+x", "'-x", "'@x", "'\tx", "' x", "a b", "-0.5", "+1e-3", "-0.5", "a=b", "", "−1"]
