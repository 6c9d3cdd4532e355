"""The help of every command can be read at 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import bearerguard
from bearerguard.cli import app

COLUMNS = 80


def every(command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command and group with the words that call it."""
    yield path, command
    for name in getattr(command, "commands", ()):
        found = command.get_command(None, name)
        yield from every(found, (*path, name))


ALL = list(every(typer.main.get_command(app)))


def explained(path: tuple[str, ...], flag: str = "--help") -> str:
    done = CliRunner().invoke(app, [*path, flag], env={"COLUMNS": str(COLUMNS)})
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) or "all" for path, _ in ALL])
def test_no_line_is_longer_than_the_terminal_and_no_name_is_cut_or_broken(path, command):
    text = explained(path)
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert "…" not in text
    lines = text.splitlines()
    assert command.help
    assert " ".join(command.help.split()) in " ".join(text.split())
    for parameter in command.params:
        for name in (*parameter.opts, *parameter.secondary_opts):
            if parameter.param_type_name == "option":
                named = re.compile(rf"^  (?:\S.*)?(?<!\S){re.escape(name)}(?=[ ,]|$)")
                assert any(map(named.match, lines)), name
        if parameter.envvar:
            assert f"[environment: {parameter.envvar}]" in text
        words = (parameter.help or "").split()
        assert " ".join(words) in " ".join(text.split())


@pytest.mark.parametrize(
    "path", [path for path, _ in ALL], ids=lambda path: " ".join(path) or "all"
)
def test_h_is_short_for_help(path):
    assert explained(path, "-h") == explained(path)


def test_the_list_of_commands_has_the_first_sentence_of_each():
    listed = " ".join(explained(()).split())
    for path, command in ALL:
        if len(path) == 1:
            assert f"{path[0]} {command.get_short_help_str(1000)}" in listed


def test_the_version_is_printed():
    assert (
        CliRunner().invoke(app, ["--version"]).stdout == f"bearerguard {bearerguard.__version__}\n"
    )


def test_a_default_is_shown_as_it_is_typed():
    assert "[default: 2592000]" in explained(("serve",))
    assert "--algorithm RS256|ES256|EdDSA|Ed25519|ML-DSA-44" in explained(("serve",))


def test_a_wrong_option_is_explained_in_plain_text():
    refused = CliRunner().invoke(app, ["client", "add", "--scop", "read"], env={"COLUMNS": "40"})
    assert refused.exit_code == 2
    assert "Usage: bearerguard client add [OPTIONS] NAME" in refused.stderr
    assert "No such option: --scop" in refused.stderr
