"""The prose linter: what it takes for prose, each rule, links, and exceptions that shrink."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose import links, rules, text
from tests.prose.__main__ import LENGTHS, complaints, main


def some(count: int) -> str:
    """So many words, each of them once, since no word may stand twice in a row."""
    return " ".join(f"word{number}" for number in range(count))


LONG, SHORT = some(26), some(25)


def broken(prose: str) -> list[tuple[int, str]]:
    return [(found.line, found.rule) for found in rules.findings(text.page(prose))]


def test_a_sentence_has_at_most_25_words() -> None:
    assert broken(f"{SHORT}. {SHORT}.\n") == []
    assert broken(f"{SHORT}.\n\n{LONG}.\n") == [(3, "sentences")]


def test_a_sentence_is_counted_over_lines_and_ends_with_its_block() -> None:
    half = some(13)
    assert broken(f"{half}\n{half}.\n") == [(1, "sentences")]
    assert broken(f"- {half}\n- {half}\n") == []
    assert broken(f"| a | b |\n|---|---|\n| {half} | {half} |\n") == []


@pytest.mark.parametrize("stop", [". Then", "? Then", "! then", '." Then', ". `code`"])
def test_where_a_sentence_ends(stop: str) -> None:
    half = some(20)
    assert broken(f"{half}{stop} {half}.\n") == []


def test_an_abbreviation_ends_no_sentence() -> None:
    half = some(13)
    assert broken(f"{half}, e.g. {half}.\n") == [(1, "sentences")]


def test_code_is_one_word_and_a_block_of_code_is_none() -> None:
    code = "`a b c d e f`"
    assert broken(" ".join([code] * 25) + ".\n") == []
    assert broken(" ".join([code] * 26) + ".\n") == [(1, "sentences")]
    assert broken(f"```\n{LONG}. Nobody.\n```\n\n    {LONG} somebody\n") == []


def test_a_link_counts_by_its_text() -> None:
    assert broken("[nobody](nowhere.md) is there.\n") == [(1, "subjects")]
    assert broken("[page](nobody.md) is there.\n") == []


@pytest.mark.parametrize(
    "sentence",
    [
        "Nobody reads it.",
        "It waits, since somebody writes.",
        "Whoever reads it waits.",
        "What is derived is counted.",
        "It ends, and what was open is sealed.",
    ],
)
def test_no_pronoun_where_a_noun_can_stand(sentence: str) -> None:
    assert broken(f"A page.\n{sentence}\n") == [(2, "subjects")]


def test_a_question_may_ask_what_something_is() -> None:
    assert broken("What is a tier? It says what is stored.\n") == []


@pytest.mark.parametrize(
    "sentence", ["See issue 7.", "Done (#12).", "A milestone.", "The next session does it."]
)
def test_no_word_about_how_the_work_was_organised(sentence: str) -> None:
    assert [rule for _, rule in broken(f"{sentence}\n")] == ["work"]


def test_a_number_has_its_unit() -> None:
    assert broken("It took 0.2 and is faster.\n") == []
    assert broken("It took 0.2 longer.\n") == [(1, "units")]
    for fine in ("0.2 s", "0.1 to 2 s", "0.6 of zram's", "Linux 6.9 has it", "1.5 times", "9.5 %"):
        assert broken(f"It is {fine}.\n") == []


def test_the_checks_of_proselint_are_there() -> None:
    assert broken("An ATM machine.\n") == [(1, "redundancy.ras_syndrome")]


def test_no_word_stands_twice() -> None:
    assert broken("It is\nis here.\n") == [(1, "repeated")]
    assert broken("A word that that one had had: zstd:1 15.9 us.\n") == []


def test_docstrings_have_the_lines_of_their_file() -> None:
    source = (
        '"""A module."""\n\nNOBODY = "Nobody."  # nobody\n\n\n'
        'class A:\n    """One.\n\n    Nobody waits.\n\n        nobody = code\n    """\n\n'
        '    def f(self) -> None:\n        """Somebody waits."""\n'
    )
    found = rules.findings(text.docstrings(source))
    assert [(f.line, f.rule) for f in found] == [(9, "subjects"), (15, "subjects")]


def test_anchors_are_those_of_github() -> None:
    page = "# The `a_b` page\n\n## Who's there?\n\n## Twice\n\n## Twice\n"
    assert links.anchors(page) == {"the-a_b-page", "whos-there", "twice", "twice-1"}


def test_a_link_leads_to_a_file_and_a_heading(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Here\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n\n[a](other.md#here) [b](#top) [c](https://example.org/no) ![d](no.svg)\n\n"
        '[e](other.md#gone) [f](gone.md)\n\n<img src="no.png">\n'
    )
    found = [(line, message.split("'")[1]) for line, message in links.broken(page)]
    assert found == [(3, "no.svg"), (5, "other.md#gone"), (5, "gone.md"), (7, "no.png")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "fuseswap").mkdir()
    (tmp_path / "README.md").write_text("# A page\n")
    (tmp_path / "fuseswap" / "good.py").write_text('"""Short: docs/results/none.md."""\n')
    (tmp_path / "fuseswap" / "old.py").write_text('"""Nobody waits."""\n')
    return tmp_path


def test_an_exception_holds_as_long_as_it_is_needed(tree: Path) -> None:
    page = "fuseswap/good.py:1: 'docs/results/none.md': there is no such file"
    assert list(complaints(tree, {"fuseswap/old.py"})) == [page]
    listed = {"fuseswap/old.py", "fuseswap/good.py", "fuseswap/gone.py"}
    unneeded = [line.split()[0] for line in complaints(tree, listed) if "needs no" in line]
    assert unneeded == ["fuseswap/gone.py", "fuseswap/good.py"]
    assert any("subjects" in line for line in complaints(tree, set()))


def test_a_script_names_pages_that_exist(tree: Path) -> None:
    (tree / "scripts").mkdir()
    (tree / "scripts" / "run").write_text("#!/bin/sh\n# Nobody: see docs/none.md\n")
    complaint = "scripts/run:2: 'docs/none.md': there is no such file"
    assert complaint in list(complaints(tree, {"fuseswap/old.py"}))


def test_a_file_that_is_named_is_there(tree: Path) -> None:
    code = '"""|good.py|, |fuseswap/g*.py|, |gone.py|."""\n\nX = 1  # |lost/good.py|\n'
    (tree / "fuseswap" / "named.py").write_text(code.replace("|", "``"))
    page = (
        "# A page\n\n`good.py` of `fuseswap/`, `scripts/gone run`, `no_*.py`; `x.txt` is no name.\n"
    )
    (tree / "docs" / "page.md").write_text(page)
    lines = complaints(tree, {"fuseswap/old.py"})
    found = [line.split(": ")[:2] for line in lines if line.startswith(("fuseswap/named", "docs"))]
    assert found == [
        ["docs/page.md:3", "'scripts/gone'"],
        ["docs/page.md:3", "'no_*.py'"],
        ["fuseswap/named.py:1", "'gone.py'"],
        ["fuseswap/named.py:3", "'lost/good.py'"],
    ]


def test_a_page_has_a_length(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LENGTHS, "README.md", 800)
    (tree / "README.md").write_text("Word.\n\n" * 801 + f"```\n{LONG}\n```\n")
    assert "README.md:1: 801 words, at most 800" in list(complaints(tree, {"fuseswap/old.py"}))


def test_files_by_name_are_checked_without_exceptions(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tree / "fuseswap" / "good.py")]) == 0
    assert main([str(tree / "fuseswap" / "old.py")]) == 1
    assert "old.py:1: subjects: 'Nobody'" in capsys.readouterr().err
