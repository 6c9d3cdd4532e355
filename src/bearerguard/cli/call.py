"""`bearerguard call`: a request with a token that is always fresh, and its refusal explained."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx2
import typer

from bearerguard.cli import output, progress
from bearerguard.cli.client_options import ChosenIssuer, opened_manager
from bearerguard.cli.logins import Login
from bearerguard.client.httpx2 import BearerAuth
from bearerguard.errors import ConfigurationError, InsufficientScope, StepUpRequired
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
            help="The URL to call: the token goes there, if the login named no other --resource."
        ),
    ],
    request: Annotated[
        str | None,
        typer.Option(
            "-X", "--request", help="The method; GET, or POST with -d.", show_default=False
        ),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("-H", "--header", help='A header line, "Name: value".')
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("-d", "--data", help="The body; @file reads a file, @- standard input."),
    ] = None,
    include: Annotated[
        bool, typer.Option("-i", "--include", help="Print the status and header lines first.")
    ] = False,
    issuer: ChosenIssuer = None,
) -> None:
    """Call an API with a fresh token; print the body, or why it was refused."""
    with output.endings():
        method = request or ("GET" if data is None else "POST")
        if not method.isascii():
            raise ConfigurationError("-X: pass a method such as PUT")
        manager, login = opened_manager(issuer)
        # What the login named is where its token may go; without a name, where this call goes.
        origins = login.resource if login is not None and login.resource else (_origin(url),)
        auth = BearerAuth(manager, origins=origins)
        try:
            with httpx2.Client(timeout=_TIMEOUT, trust_env=not is_here(url)) as client:
                dial_within_deadlines(client)
                answer = client.request(
                    method, url, headers=_headers(header, data), content=_body(data), auth=auth
                )
        except (InsufficientScope, StepUpRequired) as refused:
            explained = output.shown(_explained(refused, login))
            # Not wrapped: the command is to be pasted.
            progress.console().print(f"[bold red]bearerguard:[/] {explained}", soft_wrap=True)
            raise typer.Exit(output.LOGIN_NEEDED) from refused
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise ConfigurationError("URL: no such URL can be called") from error
        except httpx2.LocalProtocolError as error:
            raise ConfigurationError("-X, -H: no such request can be sent") from error
        except httpx2.TransportError as error:
            found = failure(error, _TIMEOUT)
            progress.warn(f"{_origin(url)} could not be reached: {found.words}")
            raise typer.Exit(output.UNAVAILABLE if found.temporary else output.FAILED) from error
        except httpx2.DecodingError as error:
            progress.warn(f"what {_origin(url)} answers cannot be read: its encoding is broken")
            raise typer.Exit(output.FAILED) from error
    _print(answer, include=include)
    if answer.status_code >= _FIRST_ERROR:
        for challenge in answer.headers.get_list("www-authenticate"):
            progress.note(f"The API asks for: {challenge}")
        progress.warn(f"{answer.status_code} {answer.reason_phrase}")
        raise typer.Exit(output.FAILED)


def _print(answer: httpx2.Response, *, include: bool) -> None:
    if include:
        lines = [f"HTTP {answer.status_code} {answer.reason_phrase}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.multi_items()]
        _write("\n".join([*map(output.harmless, lines), "", ""]))
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(answer.content)
        sys.stdout.flush()
        return
    # For a person: a body may steer no terminal either. In a pipe it is exact.
    text = answer.content.decode("utf-8", "replace").replace("\r\n", "\n")
    _write(output.harmless(text, keep="\n\t") + ("" if text.endswith("\n") else "\n"))


def _write(text: str) -> None:
    sys.stdout.buffer.write(text.encode(sys.stdout.encoding, "backslashreplace"))
    sys.stdout.flush()


def _explained(refused: InsufficientScope | StepUpRequired, login: Login | None) -> str:
    """Return what the API lacks, and the command that gets it."""
    command = "log in again"
    if login is not None:
        scope = tuple(dict.fromkeys((*login.scope, *refused.scopes)))
        command = login.command(scope, _demanded(refused))
    if isinstance(refused, InsufficientScope):
        wanted = f"the scope {' '.join(refused.scopes)}" if refused.scopes else "more scope"
        return f"the token lacks {wanted}. To get it:\n\n  {command}\n"
    demands = [f"at most {refused.max_age} s old"] if refused.max_age is not None else []
    demands += [f"by {' or '.join(refused.acr_values)}"] if refused.acr_values else []
    return f"the API demands a login {' and '.join(demands) or 'anew'}. Log in so:\n\n  {command}\n"


def _demanded(refused: InsufficientScope | StepUpRequired) -> dict[str, str]:
    """Return what the API wants of the authorization request (RFC 9470 §4)."""
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
        raise ConfigurationError("URL: it cannot be read") from None
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigurationError("URL: pass an absolute http(s) URL")
    return f"{parts.scheme}://{parts.netloc}"


def _headers(lines: list[str] | None, data: str | None) -> list[tuple[bytes, bytes]]:
    found = []
    for line in lines or ():
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not name.isascii():
            raise ConfigurationError('-H: give a header line as "Name: value"')
        if name.strip().lower() == "authorization":
            raise ConfigurationError("-H: Authorization is what this command sends itself")
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
