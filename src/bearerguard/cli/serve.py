"""`bearerguard serve`: the authorization server by itself, under uvicorn."""

from __future__ import annotations

import logging
from ipaddress import ip_network
from typing import Annotated, Any

import typer
import uvicorn

from bearerguard.cli import output
from bearerguard.cli.server_options import Issuer, Resources, Scopes, Store, described
from bearerguard.errors import ConfigurationError
from bearerguard.server import AuthorizationServer
from bearerguard.server.settings import DAY


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
TrustedProxies = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy",
        envvar="BEARERGUARD_SERVER_TRUSTED_PROXIES",
        help="A proxy, by address or network, whose X-Forwarded-For says who sends a request;"
        " nobody's is believed if absent; repeatable.",
    ),
]


def serve(
    *,
    issuer: Issuer,
    store: Store,
    scope: Scopes = None,
    resource: Resources = None,
    access_token_lifetime: AccessTokens = 3600,
    refresh_token_lifetime: RefreshTokens = 30 * DAY,
    refresh_token_max_lifetime: Consents = 180 * DAY,
    refresh_grace: Grace = 10,
    code_lifetime: Codes = 60,
    key_lifetime: Keys = 90 * DAY,
    secret_overlap: Overlap = DAY,
    algorithm: Algorithm = "RS256",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8000,
    trusted_proxy: TrustedProxies = None,
) -> None:
    """Run the authorization server by itself; TLS belongs to the proxy in front of it."""
    with output.endings():
        proxies = _addresses(trusted_proxy or [])
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
        )
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
        # Addresses may hold what is no business of a log: the server's own events are there.
        uvicorn.run(
            server.asgi_app(),
            host=host,
            port=port,
            access_log=False,
            # uvicorn would believe whoever sends from this machine, and an environment variable.
            # The address is what logins are throttled by.
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
        )


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
