"""`bearerguard login` and `logout`: by the browser, or with a code on another device."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import replace
from typing import Annotated

import typer

from bearerguard.cli import output, progress
from bearerguard.cli.client_options import (
    AUTO,
    PLAINTEXT,
    STORAGES,
    ChosenIssuer,
    manager,
    named_storage,
    probed_storage,
)
from bearerguard.cli.logins import Login, chosen_login, forget, remember
from bearerguard.client.login.device_code import DevicePrompt
from bearerguard.client.storages.storage import MemoryStorage, Storage
from bearerguard.client.token import Token
from bearerguard.errors import BearerGuardError, ConfigurationError, DiscoveryError, StorageError


def login(
    *,
    issuer: Annotated[
        str,
        typer.Argument(help="The authorization server's URL, with its final / if it has one."),
    ],
    client_id: Annotated[
        str,
        typer.Option(
            envvar="BEARERGUARD_CLIENT_ID",
            help="The client that the server knows this program by.",
            show_default=False,
        ),
    ],
    scope: Annotated[list[str] | None, typer.Option(help="A scope to ask for; repeatable.")] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(help="The URI of the API that the token is for; repeatable."),
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            envvar="BEARERGUARD_STORAGE", help=f"Where to keep it: {', '.join(STORAGES)}."
        ),
    ] = AUTO,
    device: Annotated[
        bool, typer.Option("--device", help="Log in on another device, with a code.")
    ] = False,
    dpop: Annotated[
        bool, typer.Option("--dpop", help="Bind the token to a key of this machine (DPoP).")
    ] = False,
    assume_pkce: Annotated[
        bool, typer.Option("--assume-pkce", help="The server does PKCE without saying so.")
    ] = False,
    assume_token_type: Annotated[
        str | None,
        typer.Option(help='"Bearer" for a server that names no token type.', show_default=False),
    ] = None,
    bearer_type: Annotated[
        str | None,
        typer.Option(
            help='What the server calls a bearer token, such as "bot".', show_default=False
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE that the server demands in the request besides; repeatable."),
    ] = None,
    redirect_uri: Annotated[
        str | None,
        typer.Option(
            help="The loopback address that is registered, such as http://localhost:8765/callback;"
            " any free port of 127.0.0.1 if absent.",
            show_default=False,
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Log in to an authorization server and keep the token safely."""
    with output.endings():
        wanted = Login(
            issuer=issuer,
            client_id=client_id,
            scope=_split(scope),
            resource=tuple(resource or ()),
            storage=storage,
            device=device,
            dpop=dpop,
            assume_pkce=assume_pkce,
            parameters=_parameters(param or []),
            redirect_uri=redirect_uri,
            assume_token_type=assume_token_type,
            bearer_type=bearer_type,
        )
        manager(wanted, MemoryStorage())  # raises for what can be no login, before all else
        # Before anybody is asked anything: a token that cannot be kept is no use.
        kept_in, kind, reason = probed_storage(storage)
        if kind == PLAINTEXT:
            progress.warn(f"{kept_in.name}: whoever reads this user's files has the token.")
        wanted = replace(wanted, storage=kind)
        token, made = _logged_in(wanted, kept_in)
        remember(made)
    granted = token.scopes if token.scopes is not None else made.scope
    result = {
        "issuer": made.issuer,
        "client_id": made.client_id,
        "scope": list(granted),
        "expires_at": output.moment(token.expires_at),
        "storage": kept_in.name,
        "storage_reason": reason,
    }
    if json:
        output.as_json(result)
        return
    progress.done(f"Logged in to {made.issuer}" + (f" for {' '.join(granted)}" if granted else ""))
    progress.note(f"The token is kept in: {kept_in.name}")
    progress.note(f"Chosen because: {reason}")


def logout(*, issuer: ChosenIssuer = None) -> None:
    """Revoke the token at the server, and forget it here."""
    with output.endings():
        left = chosen_login(issuer)
        try:
            revoked = manager(left, named_storage(left.storage)).logout()
        except StorageError:
            raise  # nothing was forgotten
        except BearerGuardError as error:
            forget(left)
            progress.warn(f"Logged out of {left.issuer} here, but the server was not told: {error}")
            raise typer.Exit(output.exit_code(error)) from error
        forget(left)
    if revoked:
        progress.done(f"Logged out of {left.issuer}; the token is revoked.")
    else:
        progress.done(f"Logged out of {left.issuer}; there was no token that the server knows.")


def _logged_in(wanted: Login, storage: Storage) -> tuple[Token, Login]:
    """Have a person log in, on this machine or another; return how it was done too."""
    if not wanted.device and not _has_browser():
        try:
            device = replace(wanted, device=True)
            return _by_device(device, storage), device
        except DiscoveryError:
            progress.note("There is no browser here, and the server has no login with a code.")
    if wanted.device:
        return _by_device(wanted, storage), wanted
    return _by_browser(wanted, storage), wanted


def _by_browser(wanted: Login, storage: Storage) -> Token:
    def show(url: str) -> None:
        opened = _has_browser() and webbrowser.open(url)
        say = "Your browser opens. If it does not, visit" if opened else "Open this in a browser"
        progress.note(f"{say}:\n\n  {url}\n")

    with progress.waiting(f"Waiting for the browser to come back from {wanted.issuer} …"):
        return manager(wanted, storage, open_browser=show).login()


def _by_device(wanted: Login, storage: Storage) -> Token:
    def show(prompt: DevicePrompt) -> None:
        progress.note(f"\n  Open   {prompt.verification_uri}\n  Enter  {prompt.user_code}\n")
        if prompt.verification_uri_complete:
            progress.note(f"  or open {prompt.verification_uri_complete}\n")

    with progress.waiting(f"Waiting for your answer at {wanted.issuer} …"):
        return manager(wanted, storage, prompt=show).login()


def _has_browser() -> bool:
    """Whether a page can be shown here: text browsers in this terminal do not count."""
    if os.environ.get("BROWSER"):
        return True
    shown = sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return shown


def _parameters(given: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [each.partition("=") for each in given]
    if not all(name and equals and value for name, equals, value in pairs):
        raise ConfigurationError("--param: give each as NAME=VALUE")
    found = {name: value for name, _, value in pairs}
    if len(found) != len(pairs):
        raise ConfigurationError("--param: give each name once")
    return tuple(found.items())


def _split(scope: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(" ".join(scope or ()).split()))
