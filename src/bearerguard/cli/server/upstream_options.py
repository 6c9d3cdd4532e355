"""The options of `serve` for one OpenID provider where users sign in. More are given in Python."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from bearerguard.errors import ConfigurationError
from bearerguard.server.upstream.options import UpstreamLogin

SECRET_VARIABLE = "BEARERGUARD_SERVER_UPSTREAM_SECRET"  # noqa: S105 - its name

# How the options of `UpstreamLogin` are called here.
OPTIONS = {
    "UpstreamLogin(issuer)": "--upstream",
    "UpstreamLogin(client_id=)": "--upstream-client-id",
    "UpstreamLogin(client_secret=)": SECRET_VARIABLE,
    "UpstreamLogin(name=)": "--upstream-name",
    "password_login=False": "--no-password-login",
    "upstreams=": "--upstream",
    "domains=": "--upstream-domain",
}

Issuer = Annotated[
    str | None,
    typer.Option(
        "--upstream",
        envvar="BEARERGUARD_SERVER_UPSTREAM",
        metavar="URL",
        help="The issuer URL of an OpenID provider where users can sign in; the client's secret"
        f" there is in {SECRET_VARIABLE}.",
    ),
]
ClientId = Annotated[
    str | None,
    typer.Option(
        "--upstream-client-id",
        envvar="BEARERGUARD_SERVER_UPSTREAM_CLIENT_ID",
        help="The id of this server there.",
    ),
]
Name = Annotated[
    str,
    typer.Option(
        "--upstream-name",
        envvar="BEARERGUARD_SERVER_UPSTREAM_NAME",
        help="Its name on the login page; the redirect URI ends with it, in small letters.",
    ),
]
Domains = Annotated[
    list[str] | None,
    typer.Option(
        "--upstream-domain",
        envvar="BEARERGUARD_SERVER_UPSTREAM_DOMAINS",
        help="Admit users with a verified e-mail address in this domain; repeatable.",
    ),
]
PasswordLogin = Annotated[
    bool,
    typer.Option(
        "--password-login/--no-password-login",
        envvar="BEARERGUARD_SERVER_PASSWORD_LOGIN",
        help="Whether users can sign in with a password of this server.",
    ),
]


def upstreams(
    issuer: str | None,
    client_id: str | None,
    name: str,
    domains: list[str] | None,
) -> list[UpstreamLogin]:
    """Return the upstream that the options name, or none; raises `ConfigurationError`."""
    if issuer is None:
        if client_id is not None or name or domains:
            raise ConfigurationError(
                "--upstream-client-id, --upstream-name, --upstream-domain: name the provider by"
                " --upstream, or leave them out"
            )
        return []
    secret = os.environ.get(SECRET_VARIABLE)
    if client_id is None or not secret:
        raise ConfigurationError(
            f"--upstream: add --upstream-client-id, and set {SECRET_VARIABLE} to the client's"
            " secret there"
        )
    if not domains:
        raise ConfigurationError(
            "--upstream: say who may sign in by --upstream-domain; for other rules, such as groups,"
            " serve it in Python with UpstreamLogin(admit=)"
        )
    return [
        UpstreamLogin(
            issuer,
            client_id=client_id,
            client_secret=secret,
            name=name,
            domains=domains,
        )
    ]
