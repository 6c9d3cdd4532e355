"""`bearerguard serve`: the authorization server by itself, under uvicorn."""

from __future__ import annotations

import logging
import os
import socket
from ipaddress import ip_network
from typing import Annotated, Any

import typer
import uvicorn

from bearerguard import Guard, Revocations
from bearerguard.cli import output
from bearerguard.cli.server_options import (
    Issuer,
    Resources,
    Scopes,
    Store,
    described,
    naming_store,
)
from bearerguard.errors import ConfigurationError
from bearerguard.server import AuthorizationServer
from bearerguard.server import settings as defaults

_REVOCATIONS_SECRET = "BEARERGUARD_REVOCATIONS_SECRET"  # noqa: S105 - its name


def _option(name: str, text: str) -> Any:
    return typer.Option(envvar=f"BEARERGUARD_SERVER_{name}", help=text)


AccessTokens = Annotated[
    float, _option("ACCESS_TOKEN_LIFETIME", "Seconds that an access token lives.")
]
RefreshTokens = Annotated[
    float, _option("REFRESH_TOKEN_LIFETIME", "Seconds that a refresh token may idle.")
]
Consents = Annotated[
    float,
    _option("REFRESH_TOKEN_MAX_LIFETIME", "Seconds from a user's consent to the next."),
]
Grace = Annotated[
    float, _option("REFRESH_GRACE", "Seconds in which a lost refresh may be repeated; 0: none.")
]
Codes = Annotated[float, _option("CODE_LIFETIME", "Seconds that an authorization code lives.")]
Keys = Annotated[float, _option("KEY_LIFETIME", "Seconds after which the signing key rotates.")]
Overlap = Annotated[
    float, _option("SECRET_OVERLAP", "Seconds that a client's old secret stays valid.")
]
Algorithm = Annotated[
    str, _option("ALGORITHM", "What new signing keys are for: RS256, ES256 or EdDSA.")
]
UnknownScopes = Annotated[
    str,
    _option(
        "UNKNOWN_SCOPES",
        "What becomes of scopes that the server or the client does not know: ignore leaves them"
        " out, refuse refuses the request.",
    ),
]
EndpointAudiences = Annotated[
    bool,
    _option(
        "ACCEPT_ENDPOINT_AUDIENCES",
        "Let a client's assertion (private_key_jwt) name the token endpoint as its audience"
        " instead of the issuer, as older clients do.",
    ),
]
TrustedProxies = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy",
        envvar="BEARERGUARD_SERVER_TRUSTED_PROXIES",
        help="A proxy, by address or network, whose X-Forwarded-For says who sends a request;"
        " nobody's is believed if absent; repeatable.",
    ),
]
AnyHttp = Annotated[
    bool,
    typer.Option(
        "--insecure-allow-http",
        help="Allow an --issuer with plain http beyond this machine, on a network you trust.",
    ),
]
SharedRevocations = Annotated[
    str | None,
    typer.Option(
        "--revocations",
        envvar="BEARERGUARD_REVOCATIONS_STORE",
        help="Where the workers of the APIs learn what is revoked: the URL of their RedisStore;"
        f" its secret is in {_REVOCATIONS_SECRET}.",
    ),
]


def serve(
    *,
    issuer: Issuer,
    store: Store,
    scope: Scopes = None,
    resource: Resources = None,
    access_token_lifetime: AccessTokens = defaults.ACCESS_TOKEN_LIFETIME,
    refresh_token_lifetime: RefreshTokens = defaults.REFRESH_TOKEN_LIFETIME,
    refresh_token_max_lifetime: Consents = defaults.REFRESH_TOKEN_MAX_LIFETIME,
    refresh_grace: Grace = defaults.REFRESH_GRACE,
    code_lifetime: Codes = defaults.CODE_LIFETIME,
    key_lifetime: Keys = defaults.KEY_LIFETIME,
    secret_overlap: Overlap = defaults.SECRET_OVERLAP,
    algorithm: Algorithm = defaults.ALGORITHM,
    unknown_scopes: UnknownScopes = defaults.IGNORE,
    accept_endpoint_audiences: EndpointAudiences = False,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8000,
    trusted_proxy: TrustedProxies = None,
    revocations: SharedRevocations = None,
    insecure_allow_http: AnyHttp = False,
) -> None:
    """Run the authorization server by itself; TLS belongs to the proxy in front of it."""
    with output.endings():
        proxies = _addresses(trusted_proxy or [])
        # Before the server, which says whether it begins a database; how that is done is no news.
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        with naming_store():
            server = AuthorizationServer(
                issuer,
                store=store,
                scopes=described(scope),
                resources=resource,
                access_token_lifetime=access_token_lifetime,
                refresh_token_lifetime=refresh_token_lifetime,
                refresh_token_max_lifetime=refresh_token_max_lifetime,
                refresh_grace=refresh_grace,
                code_lifetime=code_lifetime,
                key_lifetime=key_lifetime,
                secret_overlap=secret_overlap,
                algorithm=algorithm,
                # What is none is refused there.
                unknown_scopes=unknown_scopes,  # type: ignore[arg-type]
                accept_endpoint_audiences=accept_endpoint_audiences,
                insecure_allow_http=insecure_allow_http,
            )
        _check_place(host, port)
        # Held, for it works for as long as it lives.
        _teller_of = None if revocations is None else _teller(server, revocations)
        # Addresses may hold what is no business of a log: the server's own events are there.
        uvicorn.run(
            server.asgi_app(trusted_proxies=proxies),
            host=host,
            port=port,
            access_log=False,
            # uvicorn would believe whoever sends from this machine, and an environment variable;
            # and it knows no proxy by another spelling. Logins are throttled by the address.
            proxy_headers=False,
        )


def _check_place(host: str, port: int) -> None:
    """Refuse an address that uvicorn could not listen on, before it would say so its own way."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConfigurationError(
            f"--host, --port: {host} port {port} cannot be listened on ({error.strerror}):"
            " choose an address of this machine, and a port that is free"
        ) from error


def _teller(server: AuthorizationServer, url: str) -> Guard:
    """Return a guard that tells the workers of the APIs what the server, or a command, revokes."""
    from bearerguard.redis import RedisStore  # noqa: PLC0415 - an extra, and it says so

    secrets = os.environ.get(_REVOCATIONS_SECRET)
    if not secrets:
        raise ConfigurationError(
            f"--revocations: set {_REVOCATIONS_SECRET} to the secret of the workers' RedisStore"
            " (several, newest first, with commas between)"
        )
    try:
        store = RedisStore(url, secret=[each.strip() for each in secrets.split(",")])
    except ConfigurationError as error:
        raise ConfigurationError(f"--revocations, or {_REVOCATIONS_SECRET}: {error}") from None
    longest = max(defaults.DAY, server.settings.longest_access_lifetime)
    teller = Guard(server.issuer(), revocations=Revocations(store, max_token_life=longest))
    teller.warm()  # begins to follow both; a store that is down is waited for
    return teller


def _addresses(proxies: list[str]) -> list[str]:
    try:
        networks = [ip_network(each) for each in proxies]
    except ValueError:
        networks = None
    if networks is None or not all(each.prefixlen for each in networks):  # all are nobody's own
        raise ConfigurationError(
            "--trusted-proxy: give the address or the network of your own proxy, such as"
            " 127.0.0.1 or 10.0.0.0/24"
        )
    return [str(each) for each in networks]
