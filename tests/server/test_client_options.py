"""An option of a client is declared once: registration, row, command and listing follow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from inspect import getdoc, signature
from typing import Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from bearerguard import ConfigurationError
from bearerguard.cli.server.clients import add, with_client_options
from bearerguard.server import Client, ClientOptions
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.client import Kind, Rules, option
from tests.server.harness import Harness


def _check_note(client: Any, _rules: Rules) -> None:
    if client.note == "bad":
        raise ConfigurationError("note=: not this one")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedClient(Client):
    """A client with two more options."""

    note: str | None = option(None, Kind.TEXT, "--note", "A note.", check=_check_note)
    colours: tuple[str, ...] = option((), Kind.NAMES, "--colour", "A colour; repeatable.")


@pytest.fixture
def noted(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Harness:
    monkeypatch.setattr("bearerguard.server.clients.registry.Client", NotedClient)
    return harness


def test_a_new_option_is_registered_stored_and_read(noted: Harness) -> None:
    options: dict[str, Any] = {"note": "blue", "colours": ["red", "red", "green"]}
    added = noted.add("App", **options)
    found = noted.server.clients.get(added.client_id)
    assert isinstance(found, NotedClient)
    assert (found.note, found.colours) == ("blue", ("red", "green"))
    assert found == added.client


def test_a_new_option_is_checked_by_its_type_and_by_its_own_check(noted: Harness) -> None:
    wrong: list[dict[str, Any]] = [{"note": 7}, {"note": "bad"}, {"colours": "red"}]
    for options in wrong:
        (name,) = options
        with pytest.raises(ConfigurationError, match=f"{name}=: "):
            noted.add("App", **options)


def test_clients_that_were_registered_before_have_the_new_options_default(noted: Harness) -> None:
    found = noted.server.clients.get(noted.app.client_id)
    assert isinstance(found, NotedClient)
    assert (found.note, found.colours) == (None, ())


def test_a_new_option_is_a_flag_and_is_listed() -> None:
    app = typer.Typer()

    def show(**given: Any) -> None:
        client = NotedClient(client_id="x", name="x", **{k: v for k, v in given.items() if v})
        typer.echo(json.dumps(client.shown()))

    app.command()(with_client_options(show, NotedClient))
    printed = CliRunner().invoke(app, ["--note", "blue", "--colour", "red", "--colour", "green"])
    assert printed.exit_code == 0, printed.output
    shown = json.loads(printed.output)
    assert (shown["note"], shown["colours"]) == ("blue", ["red", "green"])
    assert "--colour" in CliRunner().invoke(app, ["--help"]).output


def test_every_option_has_a_type_in_the_call_and_a_flag_in_the_command() -> None:
    options = clients.options()
    assert get_type_hints(ClientOptions).keys() == options.keys()
    assert options.keys() <= signature(add).parameters.keys()
    flags = [each.flag for each in options.values()]
    assert len(set(flags)) == len(flags)
    for name in options:
        assert f"    {name}: " in str(getdoc(ClientOptions)), name


@pytest.mark.parametrize(
    "options",
    [
        {"require_pkce": "no"},
        {"require_consent": 0},
        {"auth_method": 7},
        {"jwks": "{}"},
        {"scopes": "read"},
        {"scopes": 7},
        {"scopes": [7]},
        {"redirect_uris": [None]},
        {"refresh_token_lifetime": True},
    ],
)
def test_an_option_of_another_type_is_refused(harness: Harness, options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"{name}=: "):
        harness.add("App", **options)


def test_an_unknown_option_is_a_type_error(harness: Harness) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'redirect_uri'"):
        harness.add("App", redirect_uri=["https://app.example.com/cb"])
