"""`bearerguard token` prints the token; `status` prints everything about it but the token."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated, Any

import typer

from bearerguard.cli import output
from bearerguard.cli.client.client_options import ChosenIssuer, named_storage, opened_manager
from bearerguard.cli.client.logins import Login, all_logins
from bearerguard.client.storages.environment import TOKEN_VARIABLE
from bearerguard.client.token import Token
from bearerguard.errors import BearerGuardError, ConfigurationError
from bearerguard.runtime.reporting.durations import in_words


def token(
    *,
    issuer: ChosenIssuer = None,
    header: Annotated[
        bool, typer.Option("--header", help="Print it as a header field, for `curl -H @-`.")
    ] = False,
    json: output.Json = False,
) -> None:
    """Print a valid access token.

    For curl: bearerguard token --header | curl -H @- URL

    Do not put the token on a command line: every user of the machine can read it there.
    """
    with output.endings(json=json):
        if header and json:
            raise ConfigurationError("--header, --json: choose one of them")
        manager, _ = opened_manager(issuer)
        found = manager.token()
    if json:
        output.as_json(
            {
                "access_token": found.access_token,
                "token_type": found.token_type,
                "scope": None if found.scopes is None else list(found.scopes),
                "expires_at": output.moment(found.expires_at),
                "expires_in": _seconds_left(found),
            }
        )
        return
    sys.stdout.write(f"{'Authorization: Bearer ' if header else ''}{found.access_token}\n")


def status(*, json: output.Json = False) -> None:
    """Show the logins and until when they are valid; never the token."""
    with output.endings(json=json):
        logins = all_logins()
    rows = [_described(each) for each in logins]
    environment = TOKEN_VARIABLE if os.environ.get(TOKEN_VARIABLE) else None
    if json:
        output.as_json({"environment": environment, "logins": rows})
    else:
        _print(rows, environment)
    if any(row["problem"] for row in rows):
        raise typer.Exit(output.FAILED)


def _described(login: Login) -> dict[str, Any]:
    """Return the state of a login's token; `problem` says why there is none."""
    row: dict[str, Any] = {
        "issuer": login.issuer,
        "client_id": login.client_id,
        "scope": list(login.scope),
        "resource": list(login.resource),
        "storage": login.storage,
        "expires_at": None,
        "expires_in": None,
        "refreshes": False,
        "problem": None,
    }
    try:
        storage = named_storage(login.storage)
        row["storage"] = storage.name
        octets = storage.load(login.key)
        if octets is None:
            row["problem"] = "no token is stored: log in again"
            return row
        kept = Token.from_bytes(octets)
    except BearerGuardError as error:
        row["problem"] = str(error)
        return row
    row["scope"] = list(login.scope if kept.scopes is None else kept.scopes)
    row["refreshes"] = kept.refresh_token is not None
    row["expires_at"] = output.moment(kept.expires_at)
    row["expires_in"] = _seconds_left(kept)
    if not row["refreshes"] and row["expires_in"] is not None and row["expires_in"] <= 0:
        row["problem"] = "the token has expired and there is no refresh token: log in again"
    return row


def _seconds_left(token: Token) -> int | None:
    return None if token.expires_at is None else int(token.expires_at - time.time())


def _print(rows: list[dict[str, Any]], environment: str | None) -> None:
    if environment:
        output.say(f"${environment} is set: `token` and `call` use it instead of these logins.\n")
    if not rows:
        output.say("There are no logins. Run `bearerguard login ISSUER --client-id ID`.")
    for position, row in enumerate(rows):
        if position:
            output.say("")
        output.fields(
            {
                "issuer": row["issuer"],
                "client": row["client_id"],
                "scope": row["scope"] or None,
                "stored in": row["storage"],
                "token": row["problem"] or _validity(row),
            }
        )


def _validity(row: dict[str, Any]) -> str:
    seconds = row["expires_in"]
    renewed = ", refreshed automatically" if row["refreshes"] else ""
    if seconds is None:
        return "valid for as long as the server accepts it" + renewed
    if seconds <= 0:
        return f"expired at {row['expires_at']}{renewed}"
    return f"valid for {in_words(seconds)}, until {row['expires_at']}{renewed}"
