"""What a person does wrong is refused with the message that mends it, and with no secret."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bearerguard import ConfigurationError
from tests.misconfigurations import page
from tests.misconfigurations.at_run_time import FAULTS
from tests.misconfigurations.at_start import MISTAKES
from tests.misconfigurations.commands import COMMANDS, ended

PLANTED = "planted-7f3a"


@pytest.fixture(scope="module")
def rows() -> frozenset[str]:
    """The lines of the page about troubleshooting."""
    return frozenset(page.PAGE.read_text().splitlines())


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_at_the_start_by_its_name_with_a_remedy(
    mistake: str, tmp_path: Path, rows: frozenset[str]
) -> None:
    do, names, remedy = MISTAKES[mistake]
    with pytest.raises(ConfigurationError) as caught:
        do(tmp_path)
    message = str(caught.value)
    assert names in message
    assert remedy in message
    assert PLANTED not in message + repr(caught.value)
    assert page.row(mistake, message, tmp_path) in rows, page.OUTDATED


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_no_start_can_see_is_explained_in_the_log(
    fault: str, caplog: pytest.LogCaptureFixture, rows: frozenset[str]
) -> None:
    caplog.set_level(logging.INFO, "bearerguard")
    run, code, parts = FAULTS[fault]
    run()
    lines = [each for each in caplog.messages if each.startswith(f"{code}: ")]
    assert lines, caplog.messages
    for part in parts:
        assert part in lines[0]
    assert PLANTED not in caplog.text
    assert page.row(fault, lines[0]) in rows, page.OUTDATED


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_its_flag_and_the_remedy(
    command: str, tmp_path: Path, rows: frozenset[str]
) -> None:
    arguments, parts = COMMANDS[command]
    code, said = ended(arguments, tmp_path)
    assert code == 2, said
    for part in parts:
        assert part in said
    assert "Traceback" not in said
    assert PLANTED not in said
    assert page.row(command, said.strip().splitlines()[-1], tmp_path) in rows, page.OUTDATED


def test_the_page_has_each_mistake_once(rows: frozenset[str]) -> None:
    known = [*MISTAKES, *FAULTS, *COMMANDS]
    titles = [line.split(" | ")[0].removeprefix("| ") for line in rows if line.startswith("| ")]
    assert sorted(titles) == sorted([*known, *page.HEADS])


def test_there_are_more_than_sixty() -> None:
    assert len(MISTAKES) + len(FAULTS) + len(COMMANDS) > 100
