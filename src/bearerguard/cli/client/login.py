"""`bearerguard login` and `logout`; a login uses a browser, or a code on another device."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import replace
from typing import Annotated

import typer

from bearerguard.cli import output
from bearerguard.cli.client.client_options import (
    AUTO,
    ID_VARIABLE,
    STORAGE_VARIABLE,
    STORAGES,
    ChosenIssuer,
    manager,
    named_storage,
    probed_storage,
)
from bearerguard.cli.client.logins import Login, chosen_login, forget, remember
from bearerguard.client.login.device_code import DevicePrompt
from bearerguard.client.storages.registry import PLAINTEXT
from bearerguard.client.storages.storage import MemoryStorage, Storage
from bearerguard.client.token import Token
from bearerguard.errors import (
    BearerGuardError,
    ConfigurationError,
    DiscoveryError,
    StorageError,
    TokenRefused,
)
from bearerguard.protocol import names

# The option of each argument that an error may name; there is none for plain http.
_OPTIONS = {
    "issuer:": "URL:",
    "url:": "URL:",
    ", or pass insecure_allow_http=True on a network you trust": "",
    "client_id=": "--client-id",
    "scopes=": "--scope",
    "resources=": "--resource",
    "redirect_uri=": "--redirect-uri",
    "parameters=": "--param",
    "assume_pkce=": "--assume-pkce",
    "push=": "--push",
    "assume_token_type=": "--assume-token-type",
    "bearer_type=": "--bearer-type",
    "dpop=": "--dpop",
}


def login(
    *,
    issuer: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="The URL of an API, such as an MCP server's. With --client-id: the authorization"
            " server's issuer URL, exactly as the server spells it.",
        ),
    ],
    client_id: Annotated[
        str | None,
        typer.Option(
            envvar=ID_VARIABLE,
            help="The client id that the server has registered for this program. Without it, the"
            " server is found from the API, and this program registers there (RFC 7591).",
            show_default=False,
        ),
    ] = None,
    scope: Annotated[list[str] | None, typer.Option(help="A scope to request; repeatable.")] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(help="The URI of an API that the token is for (RFC 8707); repeatable."),
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            envvar=STORAGE_VARIABLE, help=f"Where to store the token: {', '.join(STORAGES)}."
        ),
    ] = AUTO,
    device: Annotated[
        bool, typer.Option("--device", help="Log in on another device, with a code (RFC 8628).")
    ] = False,
    dpop: Annotated[
        bool,
        typer.Option("--dpop", help="Bind the token to a key of this machine (DPoP, RFC 9449)."),
    ] = False,
    assume_pkce: Annotated[
        bool,
        typer.Option(
            "--assume-pkce", help="The server supports PKCE, though its metadata does not say so."
        ),
    ] = False,
    push: Annotated[
        bool,
        typer.Option(
            "--push",
            help="Push the request to the server first (RFC 9126), as is always done where the"
            " server's metadata demands it.",
        ),
    ] = False,
    assume_token_type: Annotated[
        str | None,
        typer.Option(
            help='"Bearer" for a server whose responses have no token_type.', show_default=False
        ),
    ] = None,
    bearer_type: Annotated[
        str | None,
        typer.Option(
            help='The token_type that the server uses for bearer tokens, such as "bot".',
            show_default=False,
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A further parameter of the request; repeatable."),
    ] = None,
    redirect_uri: Annotated[
        str | None,
        typer.Option(
            help="The registered loopback redirect URI, such as http://localhost:8765/callback;"
            " by default any free port of 127.0.0.1.",
            show_default=False,
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Log in for an API, or to an authorization server, and store the token safely."""
    with output.endings(json=json):
        if client_id is None:
            _refuse_without_client(
                resource=resource,
                device=device,
                assume_pkce=assume_pkce,
                push=push,
                assume_token_type=assume_token_type,
                bearer_type=bearer_type,
            )
        wanted = Login(
            issuer=issuer,
            client_id=client_id or "",
            api=issuer if client_id is None else None,
            scope=_split(scope),
            resource=tuple(resource or ()),
            storage=storage,
            device=device,
            dpop=dpop,
            assume_pkce=assume_pkce,
            push=push,
            parameters=_parameters(param or []),
            redirect_uri=redirect_uri,
            assume_token_type=assume_token_type,
            bearer_type=bearer_type,
        )
        with output.naming(_OPTIONS):
            manager(wanted, MemoryStorage())  # raises if options contradict each other
        # Before the login: a token that cannot be stored is of no use.
        place, kind, reason = probed_storage(storage)
        if kind == PLAINTEXT:
            output.warn(f"{place.name}: whoever can read this user's files has the token.")
        wanted = replace(wanted, storage=kind)
        token, made = _logged_in(wanted, place)
        remember(made)
    granted = token.scopes if token.scopes is not None else made.scope
    result = {
        "issuer": made.issuer,
        "client_id": made.client_id,
        "scope": list(granted),
        "expires_at": output.moment(token.expires_at),
        "storage": place.name,
        "storage_reason": reason,
    }
    if json:
        output.as_json(result)
        return
    output.done(f"Logged in to {made.issuer}" + (f" for {' '.join(granted)}" if granted else ""))
    output.note(f"The token is stored in: {place.name}")
    output.note(f"Chosen because: {reason}")


def logout(*, issuer: ChosenIssuer = None, json: output.Json = False) -> None:
    """Revoke the token at the server and remove it from this machine."""
    with output.endings(json=json):
        left = chosen_login(issuer)
        try:
            revoked = manager(left, named_storage(left.storage)).logout()
        except StorageError:
            raise  # nothing was removed
        except BearerGuardError as error:
            forget(left)
            if json:
                output.as_json({"issuer": left.issuer, "revoked": False, "problem": str(error)})
            output.warn(
                f"Logged out of {left.issuer} here; the server did not revoke the token: {error}"
            )
            raise typer.Exit(output.exit_code(error)) from error
        forget(left)
    if json:
        output.as_json({"issuer": left.issuer, "revoked": revoked, "problem": None})
    elif revoked:
        output.done(f"Logged out of {left.issuer}; the token is revoked.")
    else:
        output.done(f"Logged out of {left.issuer}; the server had no valid token to revoke.")


def _logged_in(wanted: Login, storage: Storage) -> tuple[Token, Login]:
    """Log the user in; return the token and the login as it was made (`device` may be set)."""
    if wanted.api is not None:
        token = _by_browser(wanted, storage)
        return token, replace(wanted, issuer=token.issuer or "", resource=_resources(token))
    if not wanted.device and not _has_browser():
        try:
            device = replace(wanted, device=True)
            return _by_device(device, storage), device
        except DiscoveryError:
            output.note(
                "There is no browser here, and the server has no device authorization endpoint."
            )
        except TokenRefused as refused:
            if refused.error != names.UNAUTHORIZED_CLIENT:
                raise
            output.note(
                "There is no browser here, and the server lets this client use no device code:"
                " register it for the grant type device_code to log in on another device."
            )
    if wanted.device:
        return _by_device(wanted, storage), wanted
    return _by_browser(wanted, storage), wanted


def _resources(token: Token) -> tuple[str, ...]:
    return (token.resource,) if token.resource else ()


def _refuse_without_client(**given: object) -> None:
    """Refuse the options that only a login at a known server has."""
    for name, value in given.items():
        if value:
            option = "--" + name.replace("_", "-")
            raise ConfigurationError(f"{option}: pass --client-id and the issuer's URL too")


def _by_browser(wanted: Login, storage: Storage) -> Token:
    def show(url: str) -> None:
        opened = _has_browser() and webbrowser.open(url)
        text = "Your browser opens. If it does not, visit" if opened else "Open this in a browser"
        output.note(f"{text}:\n\n  {url}\n")

    with output.waiting(f"Waiting for the login at {wanted.issuer} …"):
        return manager(wanted, storage, open_browser=show).login()


def _by_device(wanted: Login, storage: Storage) -> Token:
    def show(prompt: DevicePrompt) -> None:
        output.note(f"\n  Open   {prompt.verification_uri}\n  Enter  {prompt.user_code}\n")
        if prompt.verification_uri_complete:
            output.note(f"  or open {prompt.verification_uri_complete}\n")

    with output.waiting(f"Waiting for the login at {wanted.issuer} …"):
        return manager(wanted, storage, prompt=show).login()


def _has_browser() -> bool:
    """Whether a graphical browser can be opened; a text browser does not count."""
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
        raise ConfigurationError("--param: pass NAME=VALUE")
    found = {name: value for name, _, value in pairs}
    if len(found) != len(pairs):
        raise ConfigurationError("--param: pass each name once")
    return tuple(found.items())


def _split(scope: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(" ".join(scope or ()).split()))
