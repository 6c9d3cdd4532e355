"""Misconfigurations that are refused when an object is made: what was done, and the message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import fastmcp
import flask
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bearerguard import (
    Guard,
    HttpTransport,
    Introspection,
    IntrospectionCache,
    Issuer,
    KeyPolicy,
    Revocations,
    asgi,
    providers,
    scopes,
    step_up,
)
from bearerguard import flask as flask_adapter
from bearerguard import starlette as starlette_adapter
from bearerguard.client import (
    AuthorizationCode,
    ClientCredentials,
    RefreshToken,
    StaticToken,
    TokenManager,
)
from bearerguard.mcp import GuardTokenVerifier, protect
from bearerguard.redis import RedisStore
from bearerguard.server import (
    AuthorizationServer,
    Colors,
    Lifetimes,
    PeopleOptions,
    PersonalTokens,
    Registration,
    Resource,
    Scope,
    SigningKeys,
    UpstreamLogin,
)

URL, API = "https://id.example.com", "https://api.example.com"
# Whatever has this in it is a secret, and must stand in no message.
SECRET = "planted-7f3a-planted-7f3a-planted-7f3a"  # 38 characters


def _upstream(name: str) -> UpstreamLogin:
    return UpstreamLogin(
        URL, client_id="app", client_secret=SECRET, name=name, domains=["example.com"]
    )


class Mistake(NamedTuple):
    """What somebody did wrong, and the message that must follow.

    `names` is the option, variable or flag, and `remedy` what mends it; both stand in the message.
    """

    do: Callable[[Path], object]
    names: str
    remedy: str


def issuer(**options: Any) -> Issuer:
    return Issuer(URL, **({"audience": API} | options))


def mcp_app() -> Any:
    server = fastmcp.FastMCP[Any]("recordings")
    server.tool(lambda: None, name="delete")
    return server.http_app()


def start(app: Any) -> None:
    """Start an ASGI app, as a server does."""

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(_message: Any) -> None: ...

    anyio.run(app, {"type": "lifespan", "asgi": {}}, receive, send)


def guard(**options: Any) -> Guard:
    return Guard(issuer(), **options)


def env(**values: str) -> Guard:
    given = {"ISSUER": URL, "AUDIENCE": API} | values
    return Guard.from_env({f"BEARERGUARD_{name}": value for name, value in given.items()})


def server(path: Path, url: str = URL, **options: Any) -> AuthorizationServer:
    chosen = {"store": f"sqlite:///{path}/auth.db", "secret": "s" * 32} | options
    return AuthorizationServer(url, **chosen)


def client(path: Path, **options: Any) -> object:
    with_defaults = {"redirect_uris": ["https://app.example.com/cb"]} | options
    made = server(path)
    try:
        return made.clients.add("App", **with_defaults)
    finally:
        made.close()


def above_the_route() -> object:
    app = flask.Flask("api")
    flask_adapter.BearerGuard(app, guard=guard(), exclude=["/items"])

    @flask_adapter.require_scopes("read")
    @app.get("/items")
    def items() -> str:
        return ""

    app.testing = True
    return app.test_client().get("/items")


def starlette_above_the_route() -> object:
    # As by a decorator that registers the function below `require`.
    def local() -> Any:
        async def items(_request: Request) -> Response:
            return Response()

        return items

    bare = local()
    starlette_adapter.require_scopes("read")(bare)
    app = Starlette(routes=[Route("/items", bare)])
    return starlette_adapter.BearerMiddleware(app, guard=guard())


class Plain:
    pass


def takes_nothing() -> str:
    return ""


def decorated_class() -> object:
    return starlette_adapter.require_scopes("read")(Plain)


MISTAKES: dict[str, Mistake] = {
    # Issuer
    "no audience": Mistake(lambda _: Issuer(URL), "audience=", "this API's identifier"),
    "discovery URL as issuer": Mistake(
        lambda _: Issuer(f"{URL}/.well-known/openid-configuration", audience=API),
        "Issuer(url)",
        f"pass the issuer itself, '{URL}'",
    ),
    "RFC 8414 metadata URL as issuer": Mistake(
        lambda _: Issuer(f"{URL}/.well-known/oauth-authorization-server/t", audience=API),
        "Issuer(url)",
        f"pass the issuer itself, '{URL}/t'",
    ),
    "token endpoint of a Keycloak realm as issuer": Mistake(
        lambda _: Issuer(f"{URL}/realms/x/protocol/openid-connect/token", audience=API),
        "Issuer(url)",
        f"perhaps '{URL}/realms/x'",
    ),
    "authorization endpoint of Entra ID as issuer": Mistake(
        lambda _: Issuer("https://login.microsoftonline.com/t/oauth2/v2.0/authorize", audience=API),
        "Issuer(url)",
        "perhaps 'https://login.microsoftonline.com/t/v2.0'",
    ),
    "JWKS URL as issuer": Mistake(
        lambda _: Issuer(f"{URL}/.well-known/jwks.json", audience=API),
        "Issuer(url)",
        f"not the issuer: pass '{URL}'",
    ),
    "issuer without a scheme": Mistake(
        lambda _: Issuer("id.example.com", audience=API), "Issuer(url)", f"write '{URL}'"
    ),
    "issuer with a space": Mistake(
        lambda _: Issuer(f" {URL}", audience=API), "Issuer(url)", "remove it"
    ),
    "http issuer": Mistake(
        lambda _: Issuer("http://id.example.com", audience=API), "Issuer(url)", "use https"
    ),
    "issuer with a query": Mistake(
        lambda _: Issuer(f"{URL}?tenant=x", audience=API), "Issuer(url)", "remove it"
    ),
    "password in the issuer's URL": Mistake(
        lambda _: Issuer(f"https://me:{SECRET}@id.example.com", audience=API),
        "Issuer(url)",
        "remove the user and the password",
    ),
    "http jwks_uri": Mistake(
        lambda _: issuer(jwks_uri="http://id.example.com/jwks"), "jwks_uri=", "use https"
    ),
    "keys from two places": Mistake(
        lambda _: issuer(jwks_uri=f"{URL}/jwks", shared_secret=SECRET),
        "jwks_uri= and shared_secret=",
        "keys come from one place",
    ),
    "short shared secret": Mistake(
        lambda _: issuer(shared_secret=SECRET[:20]), "shared_secret=", "at least 32 bytes"
    ),
    "HS256 without its secret": Mistake(
        lambda _: issuer(algorithms=["HS256"]), "algorithms=", "HS algorithms need shared_secret="
    ),
    "algorithm none": Mistake(lambda _: issuer(algorithms=["none"]), "algorithms=", "choose from"),
    "one algorithm as text": Mistake(
        lambda _: issuer(algorithms="RS256"), "algorithms=", "pass a list"
    ),
    "refresh tokens as access tokens": Mistake(
        lambda _: issuer(token_types=["refresh+jwt"]), "token_types=", 'choose "at+jwt" and "JWT"'
    ),
    "an hour of leeway": Mistake(lambda _: issuer(leeway=3600), "leeway=", "from 0 to 300 seconds"),
    "text for a flag": Mistake(
        lambda _: issuer(accept_id_tokens="false"), "accept_id_tokens=", "pass True or False"
    ),
    "any tenant": Mistake(
        lambda _: Issuer(f"{URL}/{{tenant}}", audience=API), "tenants=", "pass the list of tenants"
    ),
    "status lists in plain http": Mistake(
        lambda _: issuer(status_lists=["http://id.example.com/statuslists/*"]),
        "status_lists=",
        "is no https URL",
    ),
    "a required status without status lists": Mistake(
        lambda _: issuer(require_status=True), "require_status=True", "pass status_lists="
    ),
    "opaque tokens without introspection": Mistake(
        lambda _: issuer(tokens="opaque"), 'tokens="opaque"', "pass introspection="
    ),
    "empty JWKS": Mistake(
        lambda _: issuer(keys={"keys": []}), "keys=", "its array `keys` is empty"
    ),
    "metadata instead of a JWKS": Mistake(
        lambda _: issuer(keys={"issuer": URL, "jwks_uri": f"{URL}/jwks"}),
        "keys=",
        "pass a JWKS or JWK",
    ),
    "a bearer token for keys of no jwks_uri": Mistake(
        lambda _: issuer(key_policy=KeyPolicy(token=SECRET)), "KeyPolicy(token=)", "pass jwks_uri="
    ),
    # Introspection
    "introspection without credentials": Mistake(
        lambda _: Introspection("api"), "client_secret=", "exactly one of"
    ),
    "introspection without a client": Mistake(
        lambda _: Introspection(client_secret=SECRET), "client_id=", "pass this API's client id"
    ),
    "two issuers that introspect": Mistake(
        lambda _: Guard(
            issuer(introspection=Introspection("api", client_secret=SECRET)),
            Issuer(
                "https://other.example.com",
                audience=API,
                introspection=Introspection("api", client_secret=SECRET),
            ),
        ),
        "introspection=",
        "pass route_opaque= to the Guard",
    ),
    # Guard
    "no issuer": Mistake(lambda _: Guard(), "Guard()", "pass at least one Issuer"),
    "the same issuer twice": Mistake(
        lambda _: Guard(issuer(), issuer(audience="other")), "Guard()", "may have several audiences"
    ),
    "URL instead of an Issuer": Mistake(
        lambda _: Guard(URL),  # type: ignore[arg-type]
        "Guard()",
        "pass Issuer objects",
    ),
    "scope as text for require": Mistake(
        lambda _: guard(require="read"), "require=", 'such as scopes("read")'
    ),
    "scopes in one text": Mistake(
        lambda _: scopes("read write"),
        "scopes('read write')",
        "pass each scope as its own argument",
    ),
    "step_up without a demand": Mistake(lambda _: step_up(), "step_up()", "pass acr=, max_age="),
    "age of a login as text": Mistake(
        lambda _: step_up(max_age="300"),  # type: ignore[arg-type]
        "step_up(max_age='300')",
        "pass whole seconds",
    ),
    "kind of login as a number": Mistake(
        lambda _: step_up(acr=2),  # type: ignore[arg-type]
        "step_up(acr=2)",
        "pass a name",
    ),
    "two kinds of login that exclude each other": Mistake(
        lambda _: step_up(acr="phr") & step_up(acr="pwd"),
        "step_up(acr=)",
        "name in each what meets both",
    ),
    "decorator without scopes": Mistake(
        lambda _: scopes(print),  # type: ignore[arg-type]
        "this is a function, not a scope",
        '@require_scopes("read")',
    ),
    "True for dpop": Mistake(
        lambda _: guard(dpop=True), "dpop=: True", 'pass "off", "allowed" or "required"'
    ),
    "DPoP without the URL of the API": Mistake(
        lambda _: Guard(issuer(audience="recordings"), dpop="required"),
        "public_url=",
        'pass public_url="https://api.example.com"',
    ),
    "nonces without DPoP": Mistake(
        lambda _: guard(dpop_nonces="n" * 32), "dpop_nonces=", 'pass dpop="allowed"'
    ),
    "proxies that nothing needs": Mistake(
        lambda _: guard(trusted_proxies=["10.0.0.0/24"]), "trusted_proxies=", "leave it out"
    ),
    "certificates of a proxy that is not named": Mistake(
        lambda _: guard(certificates="nginx"), "certificates=", "in trusted_proxies="
    ),
    "a grace for streams that do not end": Mistake(
        lambda _: guard(stream_grace=10, stream_until_expiry=False),
        "stream_grace=",
        "leave one of them out",
    ),
    "True for websockets": Mistake(
        lambda _: guard(websockets=True), "websockets=", "pass WebSockets(...)"
    ),
    "tls_client_auth without mutual TLS": Mistake(
        lambda path: client(path, auth_method="tls_client_auth", certificate_name="san_dns=a.test"),
        "auth_method=: 'tls_client_auth'",
        "pass mutual_tls=MutualTls(..., authorities=) to AuthorizationServer",
    ),
    "DPoP of a client as text": Mistake(
        lambda _: ClientCredentials(
            URL,
            client_id="a",
            client_secret="s",
            dpop="off",  # type: ignore[arg-type]
        ),
        "dpop=",
        "pass True or False",
    ),
    "realm with a quote's newline": Mistake(
        lambda _: guard(realm="a\nb"), "realm=", "printable ASCII"
    ),
    "Authorization as request id": Mistake(
        lambda _: guard(request_id_headers=["Authorization"]), "request_id_headers=", "name one"
    ),
    "tiny tokens": Mistake(
        lambda _: guard(max_token_bytes=100), "max_token_bytes=", "from 1024 to 1048576"
    ),
    "no timeout": Mistake(lambda _: HttpTransport(timeout=0), "timeout=", "positive number"),
    # Revocations and stores
    "store without a secret": Mistake(
        lambda _: RedisStore("redis://127.0.0.1:6379/0", secret="short"),
        "secret=",
        "32",
    ),
    "store by name": Mistake(
        lambda _: Revocations("redis://127.0.0.1"),  # type: ignore[arg-type]
        "Revocations(store)",
        "RedisStore(",
    ),
    "cache without a store": Mistake(
        lambda _: IntrospectionCache(None, secret=SECRET),  # type: ignore[arg-type]
        "IntrospectionCache(store)",
        "pass a RedisStore(",
    ),
    "revocations by name": Mistake(
        lambda _: guard(revocations="redis"), "revocations=", "pass Revocations(...)"
    ),
    # Environment
    "no issuer in the environment": Mistake(
        lambda _: Guard.from_env({"BEARERGUARD_AUDIENCE": API}),
        "BEARERGUARD_ISSUER",
        "give the issuer's URL",
    ),
    "issuer without a scheme in the environment": Mistake(
        lambda _: Guard.from_env(
            {"BEARERGUARD_ISSUER": "id.example.com", "BEARERGUARD_AUDIENCE": API}
        ),
        "BEARERGUARD_ISSUER",
        f"write '{URL}'",
    ),
    "http issuer in the environment": Mistake(
        lambda _: Guard.from_env(
            {"BEARERGUARD_ISSUER": "http://id.example.com", "BEARERGUARD_AUDIENCE": API}
        ),
        "BEARERGUARD_ISSUER",
        "is no https URL",
    ),
    "misspelt variable": Mistake(
        lambda _: env(JWKS_URL=f"{URL}/jwks"),
        "BEARERGUARD_JWKS_URL",
        "BEARERGUARD_JWKS_URI is meant",
    ),
    "leeway in words": Mistake(
        lambda _: env(LEEWAY="30s"), "BEARERGUARD_LEEWAY", "a number of seconds"
    ),
    "flag in words": Mistake(lambda _: env(STRICT="maybe"), "BEARERGUARD_STRICT", "true or false"),
    "short secret in the environment": Mistake(
        lambda _: env(SHARED_SECRET=SECRET[:20]), "BEARERGUARD_SHARED_SECRET", "at least 32 bytes"
    ),
    # Middleware and decorators
    "middleware without a guard": Mistake(
        lambda _: asgi.BearerMiddleware(Starlette(), guard=None),  # type: ignore[arg-type]
        "guard=",
        "pass a Guard, such as Guard(Issuer(...))",
    ),
    "path pattern with a star inside": Mistake(
        lambda _: asgi.BearerMiddleware(Starlette(), guard=guard(), exclude=["/a/*/b"]),
        "exclude=",
        "has * only at its end",
    ),
    "one path as text": Mistake(
        lambda _: asgi.BearerMiddleware(Starlette(), guard=guard(), exclude="/health"),
        "exclude=",
        "pass a list of paths",
    ),
    "require() above the route in Starlette": Mistake(
        lambda _: starlette_above_the_route(), "require()", "below the route's decorator"
    ),
    "require() above the route in Flask": Mistake(
        lambda _: above_the_route(), "require()", "below the route's decorator"
    ),
    "require() on a function without a request": Mistake(
        lambda _: starlette_adapter.require_scopes("read")(takes_nothing),
        "require()",
        "give it a parameter such as `request: Request`",
    ),
    "require() on another class": Mistake(
        lambda _: decorated_class(), "require()", "decorate its methods instead"
    ),
    "require(scope) as text": Mistake(
        lambda _: starlette_adapter.require("read"),  # type: ignore[arg-type]
        "require()",
        'such as scopes("read")',
    ),
    "two extensions of one Flask app": Mistake(
        lambda _: [
            flask_adapter.BearerGuard(app, guard=guard()) for app in [flask.Flask("api")] * 2
        ],
        "init_app()",
        "has a BearerGuard already",
    ),
    "Flask without settings": Mistake(
        lambda _: flask_adapter.BearerGuard(flask.Flask("api")),
        "BEARERGUARD_ISSUER",
        "give the issuer's URL",
    ),
    # Providers
    "URL of an endpoint for Auth0": Mistake(
        lambda _: providers.auth0("https://x.eu.auth0.com/authorize", audience=API),
        "domain",
        "pass a host name",
    ),
    # Server
    "http issuer of the server": Mistake(
        lambda path: server(path, "http://id.example.com"),
        "AuthorizationServer(issuer)",
        "insecure_allow_http=True",
    ),
    "metadata URL as issuer of the server": Mistake(
        lambda path: server(path, f"{URL}/.well-known/oauth-authorization-server"),
        "AuthorizationServer(issuer)",
        f"pass the issuer itself, '{URL}'",
    ),
    "color that is hard to read": Mistake(
        lambda _: Colors(accent="#ffcc00"), "Colors(accent=)", "choose a darker one, such as #"
    ),
    "color by its name": Mistake(
        lambda _: Colors(accent="green"), "Colors(accent=)", "write it as #rrggbb"
    ),
    "logo that is not there": Mistake(
        lambda path: server(path, people=PeopleOptions(logo=path / "logo.png")),
        "logo=",
        "name an SVG, PNG, JPEG or WebP",
    ),
    "scope without a description": Mistake(
        lambda _: Scope("", powerful=True), "Scope(description=)", "say what it allows"
    ),
    "personal tokens without scopes": Mistake(
        lambda path: server(path, personal_tokens=PersonalTokens()),
        "personal_tokens=",
        "AuthorizationServer(scopes=), or PersonalTokens(scopes=)",
    ),
    "personal tokens where every token is bound to a key": Mistake(
        lambda path: server(
            path, scopes={"read": "Read"}, dpop="required", personal_tokens=PersonalTokens()
        ),
        "personal_tokens=",
        'dpop="allowed"',
    ),
    "personal tokens that make others": Mistake(
        lambda path: server(
            path,
            scopes={"manage": "Manage"},
            personal_tokens=PersonalTokens(scopes=["manage"], api_scope="manage"),
        ),
        "PersonalTokens(scopes=)",
        "leave out 'manage'",
    ),
    "personal tokens by clients that nobody registered": Mistake(
        lambda path: server(
            path,
            scopes={"read": "Read", "manage": "Manage"},
            registration=Registration(scopes=["manage"]),
            personal_tokens=PersonalTokens(api_scope="manage"),
        ),
        "registration=",
        "leave out 'manage'",
    ),
    "personal tokens for years": Mistake(
        lambda _: PersonalTokens(max_lifetime=10 * 365 * 86_400),
        "PersonalTokens(max_lifetime=)",
        "from a day to a year",
    ),
    "prefix of personal tokens without an underscore": Mistake(
        lambda _: PersonalTokens(prefix="acme"), "PersonalTokens(prefix=)", 'such as "acme_"'
    ),
    "file name as store": Mistake(
        lambda path: server(path, store=f"{path}/auth.db"), "store=", '"sqlite:///auth.db"'
    ),
    "database of another kind as store": Mistake(
        lambda path: server(path, store="mysql://user@127.0.0.1/auth"),
        "store=",
        '"postgresql://user:password@host/name"',
    ),
    "slash in the password of the store's URL": Mistake(
        lambda path: server(path, store="postgresql://user:pass/word@127.0.0.1/auth"),
        "store=",
        "percent-encoded",
    ),
    "at sign in the password of the store's URL": Mistake(
        lambda path: server(path, store="postgresql://user:p@ssword@127.0.0.1/auth"),
        "store=",
        "percent-encoded",
    ),
    "store's URL without a database": Mistake(
        lambda path: server(path, store="postgresql://user@127.0.0.1"),
        "store=",
        "name the database",
    ),
    "long lifetime of a pushed request": Mistake(
        lambda path: server(path, lifetimes=Lifetimes(pushed_request=3600)),
        "Lifetimes(pushed_request=)",
        "600 seconds at most",
    ),
    "require_par as text": Mistake(
        lambda path: server(path, require_par="yes"), "require_par=", "True or False"
    ),
    "pushed requests of a machine": Mistake(
        lambda path: client(
            path,
            grant_types=["client_credentials"],
            require_pushed_authorization_requests=True,
        ),
        "require_pushed_authorization_requests=",
        "authorization_code",
    ),
    "short server secret": Mistake(lambda path: server(path, secret="short"), "secret=", "32"),
    "scopes without descriptions": Mistake(
        lambda path: server(path, scopes=["read"]), "scopes=", '{"read": "Read your recordings"}'
    ),
    "resource that is no URI": Mistake(
        lambda path: server(path, resources=["recordings"]), "resources=", "absolute URI"
    ),
    "resource in two spellings": Mistake(
        lambda path: server(path, resources=[API, f"{API}:443"]), "resources=", "keep the one"
    ),
    "everybody at an upstream": Mistake(
        lambda _: UpstreamLogin(URL, client_id="app", client_secret=SECRET),
        "admit=",
        "domains=",
    ),
    "upstreams with one key": Mistake(
        lambda _: PeopleOptions(upstreams=[_upstream("Example"), _upstream("example")]),
        "upstreams=",
        "pass a key= of its own",
    ),
    "nobody can sign in": Mistake(
        lambda _: PeopleOptions(password_login=False),
        "password_login=False",
        "pass upstreams=",
    ),
    "negative lifetime": Mistake(
        lambda _: Lifetimes(access_token=-1), "Lifetimes(access_token=)", "positive number"
    ),
    "day for the codes of devices": Mistake(
        lambda _: Lifetimes(device_code=86_400), "Lifetimes(device_code=)", "3600 seconds at most"
    ),
    "HS256 for the server": Mistake(
        lambda _: SigningKeys(algorithm="HS256"),  # type: ignore[arg-type]
        "SigningKeys(algorithm=)",
        "RS256, ES256, EdDSA, Ed25519, ML-DSA-44",
    ),
    "kind of a resource's tokens": Mistake(
        lambda _: Resource(API, tokens="jws"),  # type: ignore[arg-type]
        "Resource(tokens=)",
        'choose "jwt" or "opaque"',
    ),
    # Clients of the server
    "redirect URI with a wildcard": Mistake(
        lambda path: client(path, redirect_uris=["https://*.example.com/cb"]),
        "redirect_uris=",
        "register each URI",
    ),
    "redirect URI with http": Mistake(
        lambda path: client(path, redirect_uris=["http://app.example.com/cb"]),
        "redirect_uris=",
        "use https",
    ),
    "redirect URI with a fragment": Mistake(
        lambda path: client(path, redirect_uris=["https://app.example.com/#/cb"]),
        "redirect_uris=",
        "remove it",
    ),
    "public client without a redirect URI": Mistake(
        lambda path: client(path, public=True, redirect_uris=[]),
        "redirect_uris=",
        "pass the URIs to which users are sent back",
    ),
    "private_key_jwt without keys": Mistake(
        lambda path: client(path, auth_method="private_key_jwt"), "jwks=", "pass jwks="
    ),
    "private keys of a client": Mistake(
        lambda path: client(
            path, auth_method="private_key_jwt", jwks={"keys": [{"kty": "EC", "d": "AAAA"}]}
        ),
        "jwks=",
        "pass public keys alone",
    ),
    "public client without PKCE": Mistake(
        lambda path: client(path, public=True, require_pkce=False),
        "require_pkce=",
        "must use PKCE",
    ),
    # MCP servers
    "tool without a requirement": Mistake(
        lambda _: protect(Starlette(), guard=guard(), tools={"delete": "write"}),  # type: ignore[dict-item]
        "tools=",
        "pass a dict of requirements by name",
    ),
    "misspelt tool": Mistake(
        lambda _: start(protect(mcp_app(), guard=guard(), tools={"delet": scopes("write")})),
        "tools=",
        "did you mean 'delete'?",
    ),
    "requirement of a guard behind the SDK's authentication": Mistake(
        lambda _: GuardTokenVerifier(guard(require=scopes("read"))),
        "require=",
        "use AuthSettings(required_scopes=)",
    ),
    "short secret of sessions": Mistake(
        lambda _: protect(Starlette(), guard=guard(), secret="planted-7f3a"),
        "secret=",
        "make one with",
    ),
    # The client
    "http issuer of a client": Mistake(
        lambda _: ClientCredentials("http://id.example.com", client_id="a", client_secret=SECRET),
        "issuer",
        "use https",
    ),
    "metadata URL as issuer of a client": Mistake(
        lambda _: ClientCredentials(
            f"{URL}/.well-known/openid-configuration", client_id="a", client_secret=SECRET
        ),
        "issuer",
        f"pass the issuer itself, '{URL}'",
    ),
    "misspelt option of a client": Mistake(
        lambda _: AuthorizationCode(URL, client_id="a", scope=["read"]),  # type: ignore[call-arg]
        "scope=",
        "scopes= is meant",
    ),
    "no refresh token": Mistake(
        lambda _: RefreshToken(URL, client_id="a", refresh_token=""), "refresh_token", "pass"
    ),
    "static token with a space": Mistake(
        lambda _: StaticToken(f"Bearer {SECRET}"), "token", "without"
    ),
    "no source": Mistake(
        lambda _: TokenManager(URL),  # type: ignore[arg-type]
        "source",
        "pass a token source such as ClientCredentials",
    ),
}
