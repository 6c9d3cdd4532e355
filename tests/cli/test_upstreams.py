"""Sign-in elsewhere from the command line: linking accounts, and the options of `serve`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bearerguard.cli import app
from bearerguard.cli.server.upstream_options import SECRET_VARIABLE, upstreams

IDP, SECRET = "https://id.example.com", "planted-7f3a-planted-7f3a"


@pytest.fixture(autouse=True)
def variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEARERGUARD_SERVER_STORE", f"sqlite:///{tmp_path}/auth.db")
    monkeypatch.setenv("BEARERGUARD_SERVER_SECRET", "a secret of this test that is long enough")


def run(*arguments: str, given: str = "", code: int = 0) -> Result:
    result = CliRunner().invoke(app, arguments, input=given)
    assert result.exit_code == code, result.output
    return result


def test_an_account_is_linked_and_unlinked() -> None:
    for name in ("ada", "eve"):
        run("user", "add", name, given="correct horse battery\n")
    there = ("--issuer", IDP)
    linked = run("user", "link", "ADA", *there, "--subject", "00u1", "--json")
    assert json.loads(linked.stdout)["login"] == "ada"
    refused = run("user", "link", "eve", *there, "--subject", "00u1", code=1)
    assert "linked to another user" in refused.stderr
    assert "ada" in run("user", "unlink", "ada", *there).stdout
    again = run("user", "unlink", "ada", *there)
    assert f"The account was not linked to {IDP}." in again.stderr
    run("user", "link", "eve", *there, "--subject", "00u1")


def test_the_options_of_serve_make_an_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    assert upstreams(None, None, "", None) == []
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    [made] = upstreams(IDP, "server", "Example", ["example.com"])
    assert (made.issuer, made.client_id, made.client_secret) == (IDP, "server", SECRET)
    assert (made.key, made.domains) == ("example", ("example.com",))


@pytest.mark.parametrize(
    ("arguments", "secret", "complaint"),
    [
        (["--upstream", IDP], SECRET, "--upstream-client-id"),
        (["--upstream", IDP, "--upstream-client-id", "x"], "", SECRET_VARIABLE),
        (["--upstream", IDP, "--upstream-client-id", "x"], SECRET, "--upstream-domain"),
        (["--upstream-client-id", "x"], SECRET, "--upstream"),
        (
            [
                "--upstream",
                "http://id.example.com",
                "--upstream-client-id",
                "x",
                "--upstream-domain",
                "example.com",
            ],
            SECRET,
            "--upstream: 'http://id.example.com' is no https URL",
        ),
        (["--no-password-login"], "", "--no-password-login: nobody could sign in"),
    ],
)
def test_what_serve_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], secret: str, complaint: str
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, secret)
    result = run("serve", "--issuer", "https://api.example.com", *arguments, code=2)
    assert complaint in result.stderr
    assert SECRET not in result.output
