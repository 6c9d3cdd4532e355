"""`bearerguard call`: sends a request with a valid token and explains a refusal."""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from contextlib import suppress
from json import loads
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
import typer

from bearerguard.cli import output
from bearerguard.cli.client.client_options import ChosenIssuer, opened_manager
from bearerguard.cli.client.logins import Login
from bearerguard.client.httpx2 import BearerAuth
from bearerguard.client.manager import TokenManager
from bearerguard.errors import (
    BearerGuardError,
    ConfigurationError,
    InsufficientScope,
    StepUpRequired,
)
from bearerguard.transports.dialing import dial_within_deadlines
from bearerguard.transports.failures import failure
from bearerguard.transports.http import is_here

_TIMEOUT = 60.0
_FIRST_ERROR = 400


def call(
    *,
    url: Annotated[
        str,
        typer.Argument(
            help="The URL to call. The token is sent to it, unless the login named a --resource."
        ),
    ],
    request: Annotated[
        str | None,
        typer.Option(
            "-X",
            "--request",
            metavar="METHOD",
            help="The method; by default GET, or POST with -d.",
            show_default=False,
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("-H", "--header", help='A header field, "Name: value"; repeatable.'),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("-d", "--data", help="The body; @FILE reads a file, @- standard input."),
    ] = None,
    include: Annotated[
        bool, typer.Option("-i", "--include", help="Print the status and the header fields first.")
    ] = False,
    issuer: ChosenIssuer = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the status, header fields and body, or the error, as JSON.",
        ),
    ] = False,
) -> None:
    """Call an API with a valid token. Print the response body, or why the API refused."""
    with output.endings(json=json):
        method = request or ("GET" if data is None else "POST")
        if not method.isascii():
            raise ConfigurationError("-X: pass a method such as PUT")
        manager, login = opened_manager(issuer)
        # The token may go to the resources of its login; without any, to the origin of this URL.
        origins = login.resource if login is not None and login.resource else (_origin(url),)
        try:
            auth = BearerAuth(manager, origins=origins)
            response = _sent(method, url, _headers(header, data), _body(data), auth)
        except (InsufficientScope, StepUpRequired) as refused:
            command = _command(refused, login, manager)
            if json:
                output.as_json({"error": _as_members(refused, command)})
            explained = output.shown(_explained(refused, command))
            # Not wrapped, so that the command can be pasted.
            output.console().print(f"[bold red]bearerguard:[/] {explained}", soft_wrap=True)
            raise typer.Exit(output.LOGIN_NEEDED) from refused
    if json:
        output.as_json(_response_members(response))
    else:
        _print(response, include=include)
    if response.status_code >= _FIRST_ERROR:
        for challenge in response.headers.get_list("www-authenticate"):
            output.note(f"WWW-Authenticate: {challenge}")
        output.warn(f"{response.status_code} {response.reason_phrase}")
        raise typer.Exit(output.FAILED)


def _sent(
    method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes | None, auth: BearerAuth
) -> httpx2.Response:
    try:
        with httpx2.Client(timeout=_TIMEOUT, trust_env=not is_here(url)) as client:
            dial_within_deadlines(client)
            return client.request(method, url, headers=headers, content=body, auth=auth)
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise ConfigurationError("URL: this URL is malformed") from error
    except httpx2.LocalProtocolError as error:
        raise ConfigurationError("-X, -H: the method or a header field is malformed") from error
    except httpx2.TransportError as error:
        found = failure(error, _TIMEOUT)
        raise _NoResponse(
            f"{_origin(url)} could not be reached: {found.words}", temporary=found.temporary
        ) from error
    except httpx2.DecodingError as error:
        raise _NoResponse(f"the response of {_origin(url)} cannot be decoded") from error


class _NoResponse(BearerGuardError):
    """The API sent no usable response."""

    def __init__(self, text: str, *, temporary: bool = False) -> None:
        super().__init__(text)
        self.temporary = temporary


def _response_members(response: httpx2.Response) -> dict[str, Any]:
    """Return a response as JSON members: a JSON body as its value, another as text or base64."""
    fields: dict[str, list[str]] = {}
    for name, value in response.headers.multi_items():
        fields.setdefault(name.lower(), []).append(value)
    members: dict[str, Any] = {"status": response.status_code, "headers": fields, "body": None}
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        with suppress(ValueError, RecursionError):
            return members | {"body": loads(response.content)}
    try:
        return members | {"body": response.content.decode()}
    except UnicodeDecodeError:
        return members | {"body_base64": b64encode(response.content).decode()}


def _as_members(refused: InsufficientScope | StepUpRequired, command: str) -> dict[str, Any]:
    """Return a refusal as JSON members."""
    members: dict[str, Any] = {"exit_code": output.LOGIN_NEEDED, "command": command}
    if isinstance(refused, InsufficientScope):
        return {"message": "the token lacks a scope", "scope": list(refused.scopes), **members}
    demanded = {"acr_values": list(refused.acr_values), "max_age": refused.max_age}
    return {"message": "the API demands another login", **demanded, **members}


def _print(response: httpx2.Response, *, include: bool) -> None:
    if include:
        fields = [f"HTTP {response.status_code} {response.reason_phrase}"]
        fields += [f"{name}: {value}" for name, value in response.headers.multi_items()]
        _write("\n".join([*map(output.harmless, fields), "", ""]))
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(response.content)
        sys.stdout.flush()
        return
    # On a terminal, control characters of the body are escaped. A pipe gets the exact octets.
    text = response.content.decode("utf-8", "replace").replace("\r\n", "\n")
    _write(output.harmless(text, keep="\n\t") + ("" if text.endswith("\n") else "\n"))


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding, "backslashreplace"))
    sys.stdout.flush()


def _command(
    refused: InsufficientScope | StepUpRequired, login: Login | None, manager: TokenManager
) -> str:
    """Return the command that gets a token that the API accepts.

    It requests the token's other scopes too: a server may have granted more than was requested.
    """
    if login is None:
        return "log in again"
    scope = (*login.scope, *(manager.token().scopes or ()), *refused.scopes)
    return login.command(tuple(dict.fromkeys(scope)), _demanded(refused))


def _explained(refused: InsufficientScope | StepUpRequired, command: str) -> str:
    """Return what the API requires, and the command that gets such a token."""
    if isinstance(refused, InsufficientScope):
        wanted = f"the scope {' '.join(refused.scopes)}" if refused.scopes else "a scope"
        return f"the token lacks {wanted}. To get it:\n\n  {command}\n"
    demands = [f"at most {refused.max_age} s old"] if refused.max_age is not None else []
    demands += [f"by {' or '.join(refused.acr_values)}"] if refused.acr_values else []
    demanded = " and ".join(demands) or "anew"
    return f"the API demands a login {demanded}. To log in again:\n\n  {command}\n"


def _demanded(refused: InsufficientScope | StepUpRequired) -> dict[str, str]:
    """Return the authorization request's parameters that satisfy the challenge (RFC 9470 §4)."""
    found = {}
    if isinstance(refused, StepUpRequired):
        if refused.acr_values:
            found["acr_values"] = " ".join(refused.acr_values)
        if refused.max_age is not None:
            found["max_age"] = str(refused.max_age)
    return found


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError("URL: this URL is malformed") from None
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigurationError("URL: pass an absolute http(s) URL")
    return f"{parts.scheme}://{parts.netloc}"


def _headers(given: list[str] | None, data: str | None) -> list[tuple[bytes, bytes]]:
    found = []
    for field in given or ():
        name, colon, value = field.partition(":")
        if not colon or not name.strip() or not name.isascii():
            raise ConfigurationError('-H: pass a header field as "Name: value"')
        if name.strip().lower() == "authorization":
            raise ConfigurationError("-H: leave Authorization out: this command sends it")
        found.append((name.strip().encode(), os.fsencode(value.strip())))
    if data is not None and not any(name.lower() == b"content-type" for name, _ in found):
        found.append((b"Content-Type", b"application/json"))
    return found


def _body(data: str | None) -> bytes | None:
    if data is None or not data.startswith("@"):
        return None if data is None else os.fsencode(data)
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"-d: {data[1:]} cannot be read ({error.strerror})") from error
