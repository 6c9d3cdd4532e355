"""How the command line starts: what a command does not need does not hold it up."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bearerguard.cli import app

COMMANDS = [
    "login",
    "logout",
    "token",
    "status",
    "call",
    "serve",
    "revoke",
    "client",
    "user",
    "keys",
    "inspect",
    "config",
]
LOADED = """
import sys
from bearerguard.cli import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""


def test_the_list_of_commands_imports_none_of_them() -> None:
    program = LOADED.format(arguments=["--help"])
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {each for each in ended.stderr.split() if each.startswith("bearerguard.")}
    assert loaded & {"bearerguard.cli.help"}
    assert not {
        each for each in loaded if each.startswith(("bearerguard.client", "bearerguard.guard"))
    }
    assert not {"httpx2", "cryptography", "jwt", "sqlalchemy"} & set(ended.stderr.split())


@pytest.mark.parametrize("command", ["login", "logout", "token", "status", "call", "doctor"])
def test_a_command_of_the_client_does_not_wait_for_the_server_to_be_imported(command: str) -> None:
    program = LOADED.format(arguments=[command, "--help"])
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert f" {command} [OPTIONS]" in ended.stdout
    loaded = ended.stderr.split()
    assert "bearerguard.cli" in loaded
    assert not {"sqlalchemy", "alembic", "bearerguard.server", "uvicorn"} & set(loaded)


def test_all_commands_are_listed_and_each_explains_itself() -> None:
    listed = CliRunner().invoke(app, ["--help"]).stdout
    for command in COMMANDS:
        assert f"\n  {command} " in listed
        explained = CliRunner().invoke(app, [command, "--help"])
        assert explained.exit_code == 0
        assert f"bearerguard {command}" in explained.stdout
        assert "--install-completion" not in explained.stdout


def test_a_command_that_is_not_there_is_an_error_with_a_hint() -> None:
    missing = CliRunner().invoke(app, ["tokn"])
    assert missing.exit_code == 2
    assert "Did you mean 'token'?" in missing.stderr
