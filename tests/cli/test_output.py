"""What commands print as JSON is the same for a program, and steers no terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import pytest
import typer

from bearerguard import server
from bearerguard.cli import output
from bearerguard.errors import (
    BearerGuardError,
    ClientError,
    ConfigurationError,
    LoginRequired,
    NothingRevoked,
    PasswordRejected,
    PasswordsBusy,
    SigningKeyError,
    StorageError,
    StoreUnavailable,
    TokenUnavailable,
)


@pytest.mark.parametrize(
    "given",
    ["\x1b[2J", "\x9b", "\x7f", "\u202e", "\u200b", "\u2028", "\ufeff", "\U000e0041", "\udcff"],
)
def test_json_has_no_character_that_steers(capsys, given):
    output.as_json({"name": f"a{given}b \u00e9\u20ac"})
    said = capsys.readouterr().out
    assert json.loads(said) == {"name": f"a{given}b \u00e9\u20ac"}
    assert given not in said
    assert "\u00e9\u20ac" in said


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("--x: pass y"), output.MISCONFIGURED),
        (LoginRequired("the grant has ended"), output.LOGIN_NEEDED),
        (StoreUnavailable("the database is busy"), output.UNAVAILABLE),
        (PasswordsBusy("too many passwords are being checked"), output.UNAVAILABLE),
        (TokenUnavailable("the server is down"), output.UNAVAILABLE),
        (TokenUnavailable("its certificate is not valid", temporary=False), output.FAILED),
        (ClientError("There is no client 'a'"), output.FAILED),
        (PasswordRejected("The password needs at least 12 characters"), output.FAILED),
        (SigningKeyError("There is no key 'a'"), output.FAILED),
        (NothingRevoked("nothing was revoked"), output.FAILED),
        (StorageError("the file cannot be read"), output.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_ends_in_one_line_and_its_exit_code(capsys, error, code):
    with pytest.raises(typer.Exit) as ended, output.endings():
        raise error
    assert ended.value.exit_code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bearerguard: ")


def test_every_public_error_of_the_server_is_in_the_tree_of_errors():
    public = [getattr(server, name) for name in server.__all__]
    raised = [each for each in public if isinstance(each, type) and issubclass(each, Exception)]
    assert ClientError in raised
    for error in raised:
        assert issubclass(error, BearerGuardError), error


def test_an_error_names_the_options_of_the_command():
    with pytest.raises(ConfigurationError) as raised, output.naming({"a=": "--a", "b(a=)": "--b"}):
        raise ConfigurationError("b(a=): xa= must not be longer than a=")
    assert str(raised.value) == "--b: xa= must not be longer than --a"


@pytest.mark.parametrize("columns", [40, 80, 400])
def test_no_id_is_broken_however_narrow_the_terminal_is(columns):
    ids = ["client-" + "x" * 40, "https://app.example.com/a/very/long/callback/path/of/an/app"]
    program = f"""
from bearerguard.cli import output
output.table(["client id", "redirect uris", "n"], [[*{ids!r}, "1"], [*{ids!r}, "[b]2"]], "-")
output.fields({{"uris": {ids!r}}})
"""
    seen = at_terminal(program, columns)
    assert seen.count(ids[0]) == seen.count(ids[1]) == 3
    assert "[b]2" in seen
    assert ("client id      client-" in seen) == (columns < 400)


def at_terminal(program: str, columns: int) -> str:
    """Return what a program writes to a terminal of so many columns."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"COLUMNS": str(columns)},
        stdout=follower,
    ) as process:
        os.close(follower)
        seen = b""
        with suppress(OSError):  # how a terminal ends
            while more := os.read(leader, 4096):
                seen += more
    os.close(leader)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", seen.decode())


def test_the_name_of_a_field_is_escaped_as_its_value_is(capsys):
    output.fields({"\x1b]0;x\x07[red]\u202e\nsub": "a", "b": "\x1b[31m"})
    name = r"\x1b]0;x\x07[red]\u202e\nsub"
    value = r"\x1b[31m"
    assert capsys.readouterr().out == f"{name}  a\n{'b':<{len(name)}}  {value}\n"


def test_no_fields_print_nothing(capsys):
    output.fields({})
    assert capsys.readouterr().out == ""
