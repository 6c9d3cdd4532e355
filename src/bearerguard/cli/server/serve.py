"""`bearerguard serve`: runs the authorization server under uvicorn."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import suppress
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from bearerguard import Guard, Revocations
from bearerguard.cli import output
from bearerguard.cli.server import serve_log, serve_metrics, upstream_options
from bearerguard.cli.server.server_options import (
    Issuer,
    Resources,
    Scopes,
    Store,
    described,
)
from bearerguard.cli.server.workers import Workers
from bearerguard.errors import ConfigurationError, quoted
from bearerguard.logs import BackgroundHandler
from bearerguard.protocol.http.certificate_header import Format
from bearerguard.runtime.extras import Extra
from bearerguard.server import (
    AuthorizationServer,
    ClientMetadataDocuments,
    Colors,
    Lifetimes,
    MutualTls,
    PeopleOptions,
    PersonalTokens,
    Registration,
    Scope,
    SigningKeys,
    TrustedIssuer,
)
from bearerguard.server import settings as defaults
from bearerguard.server.hosting.asgi import AsgiHost
from bearerguard.server.settings import SigningAlgorithm
from bearerguard.stores import ThrottleStore

with Extra("cli", needed_by="serve"):
    import uvicorn

    from bearerguard.server.hosting.draining import DrainingServer, listeners

_log = logging.getLogger("bearerguard.server")
# Where Kubernetes' probes of readiness look by convention.
_READY = "/ready"
_LIFETIMES, _SIGNING = Lifetimes(), SigningKeys()
# Maps an argument of the server, as errors name it, to the option of the command.
_OPTIONS = {
    "Lifetimes(access_token=)": "--access-token-lifetime",
    "Lifetimes(refresh_token=)": "--refresh-token-lifetime",
    "Lifetimes(refresh_token_max=)": "--refresh-token-max-lifetime",
    "Lifetimes(refresh_grace=)": "--refresh-grace",
    "Lifetimes(code=)": "--code-lifetime",
    "Lifetimes(client_secret_overlap=)": "--secret-overlap",
    "Lifetimes(pushed_request=)": "--pushed-request-lifetime",
    "Lifetimes(device_code=)": "--device-code-lifetime",
    "SigningKeys(algorithm=)": "--algorithm",
    "SigningKeys(lifetime=)": "--key-lifetime",
    "health_path=": "--health-path",
    "AuthorizationServer(issuer)": "--issuer",
    "RedisThrottle(url)": "--throttle",
    "insecure_allow_http=True": "--insecure-allow-http",
    "ClientMetadataDocuments(allow=)": "--client-metadata-host",
    "Registration(initial_access_token=)": "BEARERGUARD_SERVER_REGISTRATION_TOKEN",
    "client_metadata=": "--client-metadata",
    "registration=": "--registration",
    "personal_tokens=": "--personal-tokens",
    "AuthorizationServer(scopes=), or PersonalTokens(scopes=)": "--scope",
    "AuthorizationServer(scopes=), or its own scopes=": "--scope",
    "refresh_token=": "--refresh-token-lifetime",
    "resources=": "--resource",
    "scopes=": "--scope",
    "store=": "--store",
    "trusted_issuers=": "--trusted-issuer",
    "unknown_scopes=": "--unknown-scopes",
    "dpop=": "--dpop",
    "dpop_nonces=": "--dpop-nonces",
    "require_par=": "--require-par",
    "MutualTls(authorities=)": "--mutual-tls-authorities",
    "MutualTls(url=)": "--mutual-tls-url",
    "site_name=": "--site-name",
    "logo=": "--logo",
    "Colors(accent=)": "--color",
    "Colors(accent_dark=)": "--color-dark",
    **upstream_options.OPTIONS,
}
_REGISTRATION_TOKEN = "BEARERGUARD_SERVER_REGISTRATION_TOKEN"  # noqa: S105 - its name
_REVOCATIONS_SECRET = "BEARERGUARD_SERVER_REVOCATIONS_SECRET"  # noqa: S105 - its name


def _option(name: str, text: str, metavar: str | None = None) -> Any:
    return typer.Option(envvar=f"BEARERGUARD_SERVER_{name}", help=text, metavar=metavar)


def _seconds(name: str, text: str) -> Any:
    return _option(name, text, "SECONDS")


AccessTokens = Annotated[
    float, _seconds("ACCESS_TOKEN_LIFETIME", "Seconds until an access token expires.")
]
RefreshTokens = Annotated[
    float, _seconds("REFRESH_TOKEN_LIFETIME", "Seconds until an unused refresh token expires.")
]
Consents = Annotated[
    float,
    _seconds(
        "REFRESH_TOKEN_MAX_LIFETIME",
        "Seconds from a user's consent until the last refresh token expires.",
    ),
]
Grace = Annotated[
    float, _seconds("REFRESH_GRACE", "Seconds for which a refresh may be repeated; 0 for never.")
]
Codes = Annotated[float, _seconds("CODE_LIFETIME", "Seconds until an authorization code expires.")]
DeviceCodes = Annotated[
    float, _seconds("DEVICE_CODE_LIFETIME", "Seconds until the code that a device shows expires.")
]
Keys = Annotated[float, _seconds("KEY_LIFETIME", "Seconds after which the signing key is rotated.")]
Overlap = Annotated[
    float, _seconds("SECRET_OVERLAP", "Seconds for which a client's old secret stays valid.")
]
Algorithm = Annotated[
    str,
    _option(
        "ALGORITHM", "The algorithm of new signing keys.", "|".join(get_args(SigningAlgorithm))
    ),
]
UnknownScopes = Annotated[
    str,
    _option(
        "UNKNOWN_SCOPES",
        "How to treat scopes that the server or the client does not have: ignore leaves them out,"
        " refuse refuses the request.",
        "ignore|refuse",
    ),
]
Dpop = Annotated[
    str,
    _option(
        "DPOP",
        "Whether clients may, must or cannot bind their access tokens to a key by a DPoP proof.",
        "allowed|required|off",
    ),
]
DpopNonces = Annotated[
    bool,
    _option("DPOP_NONCES", "Demand a nonce of the server in each DPoP proof."),
]
RequirePar = Annotated[
    bool,
    _option("REQUIRE_PAR", "Clients must push their authorization requests (RFC 9126)."),
]
PushedRequests = Annotated[
    float,
    _seconds(
        "PUSHED_REQUEST_LIFETIME",
        "Seconds in which a user must arrive with a pushed authorization request.",
    ),
]
MutualTlsSource = Annotated[
    str | None,
    _option(
        "MUTUAL_TLS",
        "Take the certificates of TLS clients (RFC 8705), which authenticate clients and which"
        " tokens can be bound to, from the header of the proxies in --trusted-proxy. By default"
        " none is taken.",
        "|".join(get_args(Format)),
    ),
]
MutualTlsAuthorities = Annotated[
    Path | None,
    _option(
        "MUTUAL_TLS_AUTHORITIES",
        "A PEM file with the authorities that clients with tls_client_auth have their certificates"
        " from; without it, there is no such method.",
        "FILE",
    ),
]
MutualTlsUrl = Annotated[
    str | None,
    _option(
        "MUTUAL_TLS_URL",
        "The base URL at which clients present certificates, where it is another than --issuer.",
        "URL",
    ),
]
EndpointAudiences = Annotated[
    bool,
    _option(
        "ACCEPT_ENDPOINT_AUDIENCES",
        "Accept client assertions (private_key_jwt) whose audience is the token endpoint instead"
        " of the issuer, as older clients send them.",
    ),
]
TrustedIssuers = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-issuer",
        envvar="BEARERGUARD_SERVER_TRUSTED_ISSUERS",
        help="The issuer URL of a platform whose tokens authenticate the clients that are"
        " registered with `client add --workload-issuer`; none by default; repeatable.",
    ),
]
ClientMetadata = Annotated[
    bool,
    _option(
        "CLIENT_METADATA",
        "Accept clients that are identified by the URL of their metadata document, which the"
        " server fetches.",
    ),
]
ClientMetadataHosts = Annotated[
    list[str] | None,
    typer.Option(
        "--client-metadata-host",
        envvar="BEARERGUARD_SERVER_CLIENT_METADATA_HOSTS",
        help="A host whose metadata documents are accepted, or *.example.com for all below a"
        " domain; every host's by default; repeatable. Implies --client-metadata.",
    ),
]
Registrations = Annotated[
    bool,
    _option(
        "REGISTRATION",
        "Let clients register themselves (RFC 7591): anybody, or who has the initial access token"
        f" in {_REGISTRATION_TOKEN}.",
    ),
]
PersonalAccessTokens = Annotated[
    bool,
    _option(
        "PERSONAL_TOKENS",
        "Let users make personal access tokens, at /oauth/account/tokens.",
    ),
]
TrustedProxies = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy",
        envvar="BEARERGUARD_SERVER_TRUSTED_PROXIES",
        help="A proxy, by address or network, whose X-Forwarded-For is trusted; none by default;"
        " repeatable.",
    ),
]
LogFormat = Annotated[
    Literal["text", "json"],
    _option("LOG_FORMAT", "How log lines are written: as text, or each as JSON.", "text|json"),
]
HealthPath = Annotated[
    str,
    _option(
        "HEALTH_PATH",
        "The path of the server's health, for probes, with /live below it, and readiness at /ready"
        " too; none to serve none of them.",
        "PATH|none",
    ),
]
MetricsPath = Annotated[
    str | None,
    _option(
        "METRICS_PATH",
        "The path of figures for Prometheus, which anybody may read who reaches it: no proxy may"
        " publish it. Not served by default.",
        "PATH",
    ),
]
WorkerCount = Annotated[
    int,
    typer.Option(
        "--workers",
        envvar="BEARERGUARD_SERVER_WORKERS",
        help="How many processes serve; one that dies is replaced.",
        min=1,
        metavar="COUNT",
    ),
]
ShutdownDelay = Annotated[
    float,
    typer.Option(
        "--shutdown-delay",
        envvar="BEARERGUARD_SERVER_SHUTDOWN_DELAY",
        help="Seconds after SIGTERM for which readiness is 503 and requests are still served, so"
        " that load balancers notice.",
        min=0,
        metavar="SECONDS",
    ),
]
AnyHttp = Annotated[
    bool,
    typer.Option(
        "--insecure-allow-http",
        help="Allow an --issuer with http that is not on loopback, on a network you trust.",
    ),
]
SharedRevocations = Annotated[
    str | None,
    typer.Option(
        "--revocations",
        envvar="BEARERGUARD_SERVER_REVOCATIONS_STORE",
        help="The URL of the RedisStore from which the workers of the APIs read revocations; its"
        f" secret is in {_REVOCATIONS_SECRET}.",
    ),
]
LoginThrottle = Annotated[
    str | None,
    _option(
        "THROTTLE_STORE",
        "The URL of the Redis or Valkey that counts login attempts; the database by default, and"
        " while Redis fails.",
        "URL",
    ),
]
PowerfulScopes = Annotated[
    list[str] | None,
    typer.Option(
        "--powerful-scope",
        envvar="BEARERGUARD_SERVER_POWERFUL_SCOPES",
        help="A scope of --scope that the consent page marks as powerful; repeatable.",
    ),
]
SiteName = Annotated[
    str | None,
    _option("SITE_NAME", "The server's name on pages; the host of --issuer by default.", "NAME"),
]
Logo = Annotated[
    Path | None,
    _option("LOGO", "The picture beside that name: an SVG, PNG, JPEG or WebP file.", "FILE"),
]
Color = Annotated[
    str | None,
    _option("COLOR", "The color of buttons and links on pages, such as #0b6e4f.", "#RRGGBB"),
]
ColorDark = Annotated[
    str | None,
    _option(
        "COLOR_DARK",
        "The same for readers who prefer dark pages; by default a lighter --color.",
        "#RRGGBB",
    ),
]


def serve(
    *,
    issuer: Issuer,
    store: Store,
    scope: Scopes = None,
    powerful_scope: PowerfulScopes = None,
    resource: Resources = None,
    access_token_lifetime: AccessTokens = _LIFETIMES.access_token,
    refresh_token_lifetime: RefreshTokens = _LIFETIMES.refresh_token,
    refresh_token_max_lifetime: Consents = _LIFETIMES.refresh_token_max,
    refresh_grace: Grace = _LIFETIMES.refresh_grace,
    code_lifetime: Codes = _LIFETIMES.code,
    pushed_request_lifetime: PushedRequests = _LIFETIMES.pushed_request,
    device_code_lifetime: DeviceCodes = _LIFETIMES.device_code,
    key_lifetime: Keys = _SIGNING.lifetime,
    secret_overlap: Overlap = _LIFETIMES.client_secret_overlap,
    algorithm: Algorithm = _SIGNING.algorithm,
    unknown_scopes: UnknownScopes = defaults.IGNORE,
    dpop: Dpop = defaults.ALLOWED,
    dpop_nonces: DpopNonces = False,
    require_par: RequirePar = False,
    mutual_tls: MutualTlsSource = None,
    mutual_tls_authorities: MutualTlsAuthorities = None,
    mutual_tls_url: MutualTlsUrl = None,
    accept_endpoint_audiences: EndpointAudiences = False,
    trusted_issuer: TrustedIssuers = None,
    client_metadata: ClientMetadata = False,
    client_metadata_host: ClientMetadataHosts = None,
    registration: Registrations = False,
    personal_tokens: PersonalAccessTokens = False,
    upstream: upstream_options.Issuer = None,
    upstream_client_id: upstream_options.ClientId = None,
    upstream_name: upstream_options.Name = "",
    upstream_domain: upstream_options.Domains = None,
    password_login: upstream_options.PasswordLogin = True,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8000,
    trusted_proxy: TrustedProxies = None,
    revocations: SharedRevocations = None,
    throttle: LoginThrottle = None,
    site_name: SiteName = None,
    logo: Logo = None,
    color: Color = None,
    color_dark: ColorDark = None,
    insecure_allow_http: AnyHttp = False,
    health_path: HealthPath = "/health",
    metrics_path: MetricsPath = None,
    log_format: LogFormat = "text",
    workers: WorkerCount = 1,
    shutdown_delay: ShutdownDelay = 0.0,
) -> None:
    """Run the authorization server; a proxy in front of it provides TLS."""
    with output.endings():
        proxies = _addresses(trusted_proxy or [])
        # Before the server is built: it logs whether it creates a database.
        log = serve_log.begin(log_format)
        metrics = (
            None if metrics_path is None else serve_metrics.Metrics(metrics_path, workers=workers)
        )
        with output.naming(_OPTIONS):
            server = AuthorizationServer(
                issuer,
                store=store,
                scopes=_scopes(scope, powerful_scope),
                resources=resource,
                people=PeopleOptions(
                    site_name=site_name,
                    logo=logo,
                    colors=_colors(color, color_dark),
                    throttle=_throttle(throttle),
                    upstreams=upstream_options.upstreams(
                        upstream,
                        upstream_client_id,
                        upstream_name,
                        upstream_domain,
                    ),
                    password_login=password_login,
                ),
                lifetimes=Lifetimes(
                    access_token=access_token_lifetime,
                    refresh_token=refresh_token_lifetime,
                    refresh_token_max=refresh_token_max_lifetime,
                    refresh_grace=refresh_grace,
                    code=code_lifetime,
                    device_code=device_code_lifetime,
                    client_secret_overlap=secret_overlap,
                    pushed_request=pushed_request_lifetime,
                ),
                # SigningKeys refuses any other text.
                signing=SigningKeys(algorithm=algorithm, lifetime=key_lifetime),  # type: ignore[arg-type]
                # AuthorizationServer refuses any other text.
                unknown_scopes=unknown_scopes,  # type: ignore[arg-type]
                dpop=dpop,  # type: ignore[arg-type]
                dpop_nonces=dpop_nonces,
                require_par=require_par,
                mutual_tls=_mutual_tls(mutual_tls, mutual_tls_authorities, mutual_tls_url, proxies),
                accept_endpoint_audiences=accept_endpoint_audiences,
                trusted_issuers=[TrustedIssuer(each) for each in trusted_issuer or ()],
                client_metadata=_documents(client_metadata, client_metadata_host),
                registration=_registration(registration),
                personal_tokens=PersonalTokens() if personal_tokens else None,
                insecure_allow_http=insecure_allow_http,
                health_path=None if health_path == "none" else health_path,
                ready_path=None if health_path == "none" else _READY,
                observers=[] if metrics is None else [metrics.observer],
            )
        publisher = None if revocations is None else _revocation_publisher(server, revocations)
        host_app = server.asgi_app(trusted_proxies=proxies)
        if metrics is not None:
            metrics.serve(host_app, server.paths)
        run = partial(_run, server, publisher, host_app, log, delay=shutdown_delay)
        # Errors of options have been reported: each process only serves from now on.
        sockets = listeners(host, port)
        for each in sockets:
            _log.info("listening on %s", _url(each))
        if workers == 1:
            run(sockets)
        else:
            Workers(workers, run, sockets).run()


def _run(
    server: AuthorizationServer,
    publisher: Guard | None,
    host_app: AsgiHost,
    log: BackgroundHandler,
    sockets: list[socket.socket],
    *,
    delay: float,
    parent: int | None = None,
) -> None:
    """Serve in this process until it is told to stop."""
    if publisher is not None:
        publisher.warm()  # starts to follow the server and the store; retries if the store is down
    config = uvicorn.Config(
        host_app,
        # The root logger's formatter then formats uvicorn's lines too.
        log_config=None,
        # URLs may contain secrets; the server logs its own events.
        access_log=False,
        # The server resolves addresses itself, because logins are throttled by address: uvicorn
        # would trust loopback and an environment variable, and compare addresses as text.
        proxy_headers=False,
    )
    serving = DrainingServer(config, on_stop=server.begin_stop, delay=delay, parent=parent)
    # uvicorn raises a SIGINT again when it has stopped.
    with serve_log.written_at_the_end(log), suppress(KeyboardInterrupt):
        serving.run(sockets)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _revocation_publisher(server: AuthorizationServer, url: str) -> Guard:
    """Return a guard that publishes revocations of the server and of commands to the workers."""
    from bearerguard.redis import RedisStore  # noqa: PLC0415 - an extra

    secrets = os.environ.get(_REVOCATIONS_SECRET)
    if not secrets:
        raise ConfigurationError(
            f"--revocations: set {_REVOCATIONS_SECRET} to the secret of the workers' RedisStore"
            " (several: the newest first, separated by commas)"
        )
    try:
        store = RedisStore(url, secret=[each.strip() for each in secrets.split(",")])
    except ConfigurationError as error:
        raise ConfigurationError(f"--revocations, or {_REVOCATIONS_SECRET}: {error}") from None
    options = server.personal_tokens.options
    longest = max(
        defaults.DAY,
        server.settings.longest_access_lifetime,
        0.0 if options is None else options.max_lifetime,
    )
    # No request reaches this guard, whatever tokens the server issues.
    revocations = Revocations(store, max_token_life=longest)
    return Guard(server.issuer(), dpop="allowed", revocations=revocations)


def _mutual_tls(
    source: str | None, authorities: Path | None, url: str | None, proxies: list[str]
) -> MutualTls | None:
    if source is None:
        if authorities is not None or url is not None:
            raise ConfigurationError(
                "--mutual-tls-authorities, --mutual-tls-url: no certificate is taken: add"
                " --mutual-tls with the format of your proxy"
            )
        return None
    if source not in get_args(Format):  # above all not "tls": here no connection has any
        raise ConfigurationError(
            "--mutual-tls: a proxy provides TLS: choose how it writes the certificate, from"
            f" {', '.join(get_args(Format))}"
        )
    options = MutualTls(source, authorities=authorities, url=url)  # type: ignore[arg-type] # a Format
    if not proxies:
        raise ConfigurationError(
            "--mutual-tls: anybody can send a certificate in a header: name the proxy that sets it"
            " by --trusted-proxy"
        )
    return options


def _scopes(given: list[str] | None, powerful: list[str] | None) -> dict[str, str | Scope] | None:
    found = described(given)
    unknown = [each for each in powerful or () if each not in (found or {})]
    if unknown:
        raise ConfigurationError(
            f"--powerful-scope: the server has no scope {quoted(unknown[0])}: add it with its"
            " description by --scope"
        )
    if found is None:
        return None
    return {
        name: Scope(text, powerful=True) if name in (powerful or ()) else text
        for name, text in found.items()
    }


def _colors(accent: str | None, accent_dark: str | None) -> Colors | None:
    if accent is None and accent_dark is None:
        return None
    return Colors(accent=accent, accent_dark=accent_dark)


def _documents(is_on: bool, hosts: list[str] | None) -> ClientMetadataDocuments | None:  # noqa: FBT001 - the option's
    return ClientMetadataDocuments(allow=hosts or None) if is_on or hosts else None


def _registration(is_on: bool) -> Registration | None:  # noqa: FBT001 - the option's
    tokens = os.environ.get(_REGISTRATION_TOKEN)
    if not is_on:
        if tokens:
            raise ConfigurationError(
                f"{_REGISTRATION_TOKEN}: nobody can register with it: add --registration"
            )
        return None
    if not tokens:
        return Registration()
    return Registration(initial_access_token=[each.strip() for each in tokens.split(",")])


def _throttle(url: str | None) -> ThrottleStore | None:
    if url is None:
        return None
    from bearerguard.redis import RedisThrottle  # noqa: PLC0415 - an extra

    return RedisThrottle(url)


def _addresses(proxies: list[str]) -> list[str]:
    try:
        networks = [ip_network(each) for each in proxies]
    except ValueError:
        networks = None
    if networks is None or not all(each.prefixlen for each in networks):  # 0.0.0.0/0: everyone
        raise ConfigurationError(
            "--trusted-proxy: pass the address or the network of your own proxy, such as"
            " 127.0.0.1 or 10.0.0.0/24"
        )
    return [str(each) for each in networks]
