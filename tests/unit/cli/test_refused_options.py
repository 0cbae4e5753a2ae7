"""Options that would have no effect, or another than was meant, are refused."""

from __future__ import annotations

import pytest

from fuseswap.cli import main


@pytest.mark.parametrize(
    "words", [("--all", "some"), ("--all", "--no-swapon"), ("--all", "--json")]
)
def test_up_of_all_takes_no_option_that_would_have_no_effect(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", *words]) == 1
    assert "'up --all' takes nothing else" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("writeback", "a"), ("estimate",), ("out",), ("in",)])
def test_an_empty_cgroup_is_not_everything(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a variable of a shell is that was never set."""
    with pytest.raises(SystemExit) as ended:
        main([*words, "--cgroup", ""])
    assert ended.value.code == 1
    assert "it is empty" in capsys.readouterr().err
