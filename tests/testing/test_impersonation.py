"""`trusted`: a guard made for a real issuer is tested without its issuer and without a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from bearerguard import (
    ClaimMapping,
    ConfigurationError,
    Event,
    Guard,
    HttpTransport,
    Introspection,
    IntrospectionCache,
    Issuer,
    IssuerUnavailable,
    KeyPolicy,
    Revocations,
    TokenError,
    TokenExpired,
    providers,
    role,
    scopes,
)
from bearerguard.backchannel import BackchannelLogout
from bearerguard.guard.guard import GuardOptions
from bearerguard.guard.records import DecisionRecord
from bearerguard.protocol.events.logout_token import EVENT
from bearerguard.redis import RedisStore
from bearerguard.server import AuthorizationServer, Resource
from bearerguard.starlette import BearerMiddleware, require_scopes
from bearerguard.testing import Clock, LocalIssuer, SigningKey, acting_as, sign, trusted
from tests.conformance.harness import NOON

ISSUER, API = "https://id.example.com", "https://api.example.com"
GUID = "11111111-2222-3333-4444-555555555555"
SECRET = "a secret of the tests and not a real one at all"


def guard_of(**options: Any) -> Guard:
    """A guard as an API's module has it."""
    return Guard(Issuer(ISSUER, audience=API, **options))


@require_scopes("read")
async def recordings(request: Any) -> JSONResponse:
    return JSONResponse({"for": request.user.identity})


def app_of(guard: Guard) -> Starlette:
    return Starlette(
        routes=[Route("/recordings", recordings)],
        middleware=[Middleware(BearerMiddleware, guard=guard)],
    )


def test_a_guard_of_a_real_issuer_accepts_the_tokens_of_the_test_issuer() -> None:
    guard = guard_of()
    client = TestClient(app_of(guard))
    with trusted(guard) as issuer:
        assert (issuer.url, issuer.audience) == (ISSUER, API)
        with acting_as(client, scopes=["read"], subject="ada"):
            assert client.get("/recordings").json() == {"for": "ada"}
        with acting_as(client, scopes=["write"]):
            assert client.get("/recordings").status_code == 403
        assert client.get("/recordings").status_code == 401


def test_after_the_block_the_guard_refuses_what_it_accepted_there() -> None:
    guard = guard_of(keys=LocalIssuer(algorithm="ES256").jwks())
    client = TestClient(app_of(guard))
    with trusted(guard) as issuer:
        acting_as(client, scopes=["read"])
        assert client.get("/recordings").status_code == 200
        assert client.get("/recordings").status_code == 200  # from the cache
    assert client.get("/recordings").status_code == 401
    with pytest.raises(TokenError):
        guard.verify(issuer_token := client.headers["Authorization"].removeprefix("Bearer "))
    with pytest.raises(TokenError):
        guard.verify(issuer.token())
    with trusted(guard) as another, pytest.raises(TokenError):
        guard.verify(issuer_token)
    assert another is not issuer


def test_inside_the_block_tokens_of_the_real_issuer_are_refused_and_after_it_accepted() -> None:
    real = LocalIssuer(ISSUER, audience=API, algorithm="ES256")
    with real.guard() as guard:
        client = TestClient(app_of(guard))
        sent = real.headers(scopes=["read"])
        assert client.get("/recordings", headers=sent).status_code == 200
        hits = dict(real.hits)
        with trusted(guard):
            assert client.get("/recordings", headers=sent).status_code == 401
        assert client.get("/recordings", headers=sent).status_code == 200
        assert real.hits == hits


def test_the_block_restores_the_guard_also_when_it_raises() -> None:
    guard = guard_of()
    before = dict(vars(guard))
    with pytest.raises(ZeroDivisionError), trusted(guard):
        raise ZeroDivisionError
    assert {name: vars(guard)[name] for name in before} == before


def test_blocks_that_overlap_leave_nothing_trusted_in_whichever_order_they_end() -> None:
    real = LocalIssuer(ISSUER, audience=API, algorithm="ES256")
    guard = guard_of(keys=real.jwks())
    first, second = trusted(guard), trusted(guard)
    tokens = [first.__enter__().token(), second.__enter__().token()]
    assert guard.verify(tokens[1])
    first.__exit__(None, None, None)
    with pytest.raises(TokenError):
        guard.verify(tokens[0])
    assert guard.verify(tokens[1])  # its block goes on
    second.__exit__(None, None, None)
    for token in tokens:
        with pytest.raises(TokenError):
            guard.verify(token)
    assert guard.verify(real.token())


def test_what_fails_to_follow_the_guard_leaves_nothing_trusted() -> None:
    class Failing:
        calls = 0

        def prepare(self) -> None:
            self.calls += 1
            raise RuntimeError

    real = LocalIssuer(ISSUER, audience=API, algorithm="ES256")
    guard = guard_of(keys=real.jwks())
    failing = Failing()
    guard.on_state_replaced(failing.prepare)
    client = TestClient(app_of(guard))
    headers = real.headers(scopes=["read"])
    assert client.get("/recordings", headers=headers).status_code == 200
    with pytest.raises(RuntimeError), trusted(guard):
        pytest.fail("the block must not begin")
    assert failing.calls == 2  # back as well
    assert client.get("/recordings", headers=headers).status_code == 200
    assert guard.verify(real.token())


def test_nothing_but_the_test_issuer_is_reached() -> None:
    events: list[Event] = []
    guard = Guard(
        Issuer(ISSUER, audience=API),
        Issuer("https://other.example.com", audience=API),
        on_event=events.append,
    )
    other = LocalIssuer("https://other.example.com", audience=API, algorithm="ES256")
    with trusted(guard, issuer=ISSUER), pytest.raises(IssuerUnavailable):
        guard.verify(other.token())
    (failed,) = [event for event in events if event.code == "fetch_failed"] or events[-1:]
    assert "not fetched in a test" in failed.detail


def test_the_clock_of_the_issuer_moves_the_guard_and_its_headers() -> None:
    guard = guard_of()
    client = TestClient(app_of(guard))
    with trusted(guard) as issuer, acting_as(client, scopes=["read"], expires_in=600):
        first = client.get("/recordings")
        assert first.status_code == 200
        issuer.clock.advance(400)
        second = client.get("/recordings")
        left = [int(each.headers["Access-Token-Expires-In"]) for each in (first, second)]
        assert left[0] - left[1] in {400, 401}
        issuer.clock.advance(300)
        assert client.get("/recordings").status_code == 401


def test_the_clock_of_a_guard_that_has_its_own_is_the_start() -> None:
    guard = Guard(Issuer(ISSUER, audience=API), clock=lambda: NOON)
    with trusted(guard) as issuer:
        token = issuer.token(expires_in=60)
        assert guard.verify(token).expires_at == NOON + 60
        issuer.clock.advance(100)
        with pytest.raises(TokenExpired):
            guard.verify(token)
    assert guard.clock() == NOON


def test_faults_of_the_test_issuer_are_faults_of_the_api() -> None:
    guard = guard_of()
    client = TestClient(app_of(guard))
    with trusted(guard) as issuer, acting_as(client, scopes=["read"]):
        with issuer.failing(outage=True):
            assert client.get("/recordings").status_code == 503
        issuer.clock.advance(60)  # the pause after a failure
        acting_as(client, scopes=["read"])
        assert client.get("/recordings").status_code == 200
        issuer.rotate(keep=False)
        acting_as(client, scopes=["read"])
        assert client.get("/recordings").status_code == 200


OPAQUE: dict[str, dict[str, Any]] = {
    "a secret": {"client_id": "recordings", "client_secret": "s3cret"},
    "a key": {
        "client_id": "recordings",
        "private_key": SigningKey.generate("ES256", "a").private,
        "assertion_audience": "https://id.example.com/token",
    },
    "a token that would be fetched": {"token": lambda: pytest.fail("fetched")},
    "an endpoint": {
        "client_id": "recordings",
        "client_secret": "s3cret",
        "endpoint": "https://introspection.example.com/ask",
    },
    "signed responses": {
        "client_id": "recordings",
        "client_secret": "s3cret",
        "signed_responses": True,
    },
}


@pytest.mark.parametrize("how", OPAQUE.values(), ids=OPAQUE)
def test_opaque_tokens_are_introspected_by_the_guard_s_own_credentials(how: dict[str, Any]) -> None:
    if "private_key" in how:
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        pem = how["private_key"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        how = {**how, "private_key": pem}
    guard = guard_of(introspection=Introspection(**how))
    client = TestClient(app_of(guard))
    with trusted(guard) as issuer:
        with acting_as(client, opaque=True, scopes=["read"], subject="ada"):
            assert client.get("/recordings").json() == {"for": "ada"}
        with acting_as(client, scopes=["read"]):
            assert client.get("/recordings").status_code == 200
        path = "/ask" if "endpoint" in how else "/introspect"
        assert issuer.hits[path] == 1


def test_a_guard_that_introspects_jwts_too_does_so_in_a_test() -> None:
    how = Introspection(client_id="recordings", client_secret="s3cret")
    guard = guard_of(introspection=how, tokens="opaque")
    with trusted(guard) as issuer:
        assert guard.verify(issuer.token(subject="ada")).subject == "ada"
        assert issuer.hits["/introspect"] == 1


def static(**options: Any) -> Callable[[], Guard]:
    return lambda: guard_of(**options)


OTHER_KEYS = LocalIssuer(algorithm="ES256")
SOURCES: dict[str, Callable[[], Guard]] = {
    "discovered keys": static(),
    "a jwks_uri of another host": static(jwks_uri="https://keys.example.com/tenant?p=policy"),
    "a discovery_url": static(discovery_url="https://id.example.com/adfs/configuration"),
    "static keys": static(keys=OTHER_KEYS.jwks()),
    "a shared secret": static(shared_secret=SECRET),
    "one algorithm with a shared secret": static(shared_secret=SECRET * 2, algorithms=["HS512"]),
    "one algorithm": static(algorithms=["RS256"]),
    "an unusual algorithm": static(algorithms=["PS512", "ES384"]),
    "tokens without a type of their own": static(token_types=("JWT",)),
    "strict claims": static(strict=True),
    "a token for the keys": static(
        jwks_uri="https://id.example.com/keys",
        key_policy=KeyPolicy(token=lambda: pytest.fail("fetched")),
    ),
    "http": lambda: Guard(Issuer("http://id.example.com", audience=API, insecure_allow_http=True)),
    "an identifier that is fetched from elsewhere": lambda: Guard(
        Issuer(
            "http://id.example.com/adfs/trust", audience=API, jwks_uri="https://id.example.com/k"
        )
    ),
    "several audiences": lambda: Guard(Issuer(ISSUER, audience=[API, "api://1"])),
    "an alias": static(aliases=["id.example.com"]),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_wherever_the_keys_of_the_real_issuer_are_nothing_is_fetched(
    make: Callable[[], Guard],
) -> None:
    guard = make()
    with trusted(guard) as issuer:
        found = guard.verify(issuer.token(scopes=["read"], roles=["admin"]))
        assert (found.issuer, found.subject) == (guard.issuers[0].url, "user")
        assert found.scopes == {"read"}
        assert found.roles == {"admin"}
        assert anyio.run(guard.averify, issuer.token(scopes=["write"])).scopes == {"write"}


def test_a_secret_of_production_signs_no_token_of_a_test() -> None:
    guard = guard_of(shared_secret=SECRET)
    with trusted(guard) as issuer:
        token = issuer.token()
    with pytest.raises(TokenError):
        guard.verify(token)


PROVIDERS: dict[str, Any] = {
    "auth0": lambda: providers.auth0("example.eu.auth0.com", audience=API),
    "okta": lambda: providers.okta("example.okta.com", audience=API),
    "entra": lambda: providers.entra(GUID, audience=GUID),
    "entra, version 1": lambda: providers.entra(GUID, audience=GUID, version=1),
    "cognito": lambda: providers.cognito("eu-west-1", "eu-west-1_1", client_ids="web"),
    "keycloak": lambda: providers.keycloak("https://id.example.com", "acme", audience=API),
    "google": lambda: providers.google(audience=API, service_accounts="a@example.com"),
    "firebase": lambda: providers.firebase("recordings"),
    "kubernetes": lambda: providers.kubernetes(audience=API),
    "github_actions": lambda: providers.github_actions(audience=API, repository="a/b"),
    "URLs as names of claims": lambda: Issuer(
        ISSUER,
        audience=API,
        claims=ClaimMapping(
            scopes="https://example.com/scopes",
            roles=["https://example.com/roles", "groups"],
            required=["tenant.name", "nbf", "org"],
        ),
    ),
}


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_token_has_its_scopes_and_roles_where_the_guard_of_a_provider_reads_them(
    name: str,
) -> None:
    guard = Guard(PROVIDERS[name](), require=scopes("read") & role("admin"))
    client = TestClient(app_of(guard))
    with trusted(guard) as issuer:
        token = issuer.token(scopes=["read"], roles=["admin"], client_id="web")
        found = guard.verify(token)
        assert found.scopes == {"read"}
        assert found.roles == {"admin"}
        assert found.client_id == "web"
        with acting_as(client, scopes=["read"], roles=["admin"]):
            assert client.get("/recordings").status_code == 200
        with acting_as(client, scopes=["read"]):
            assert client.get("/recordings").status_code == 403
        assert guard.verify(issuer.token(claims={"sub": "ada", "jti": None})).token_id is None


def test_scopes_and_roles_that_are_read_from_one_claim_share_it() -> None:
    guard = guard_of(claims=ClaimMapping(scopes="permissions", roles="permissions"))
    with trusted(guard) as issuer:
        found = guard.verify(issuer.token(scopes=["read"], roles=["admin"]))
        assert found.claims["permissions"] == ("read", "admin")
        assert found.scopes == found.roles == {"read", "admin"}


def test_blocks_are_nested_for_the_issuers_of_one_guard() -> None:
    two = "https://two.example.com"
    guard = Guard(Issuer(ISSUER, audience=API), Issuer(two, audience=API))
    with trusted(guard, issuer=ISSUER) as outer:
        with trusted(guard, issuer=guard.issuers[1]) as inner:
            assert guard.verify(outer.token()).issuer == ISSUER
            assert guard.verify(inner.token()).issuer == two
            assert inner.clock is outer.clock
        with pytest.raises(IssuerUnavailable):
            guard.verify(inner.token(key=SigningKey.generate("ES256", "key-1")))
        assert guard.verify(outer.token()).issuer == ISSUER


TENANT = "https://id.example.com/{tenant}/v2"


def test_a_tenant_of_a_multi_tenant_issuer_is_chosen() -> None:
    guard = Guard(Issuer(TENANT, audience=API, tenants=["acme", "globex"]))
    with trusted(guard, tenant="acme") as acme, trusted(guard, tenant="globex") as globex:
        assert guard.verify(acme.token()).issuer == "https://id.example.com/acme/v2"
        assert guard.verify(globex.token()).issuer == "https://id.example.com/globex/v2"
    with trusted(Guard(Issuer(TENANT, audience=API, tenants=["acme"]))) as only:
        assert only.url == "https://id.example.com/acme/v2"
    by_callable = Guard(Issuer(TENANT, audience=API, tenants=lambda name: name == "acme"))
    with trusted(by_callable, tenant="acme") as issuer:
        assert by_callable.verify(issuer.token()).issuer == issuer.url


WRONG: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "no guard": (object, {}, "object: no guard was found there"),
    "nothing": (lambda: None, {}, "pass the guard: there is no Django project"),
    "an extension without a guard": (
        lambda: SimpleNamespace(extensions={}),
        {},
        "SimpleNamespace: no guard was found there: pass the Guard itself",
    ),
    "several issuers": (
        lambda: Guard(Issuer(ISSUER, audience=API), Issuer("https://b.example", audience=API)),
        {},
        "issuer=: the guard has several: choose from 'https://id.example.com', 'https://b.example'",
    ),
    "another issuer": (guard_of, {"issuer": "https://c.example"}, "does not trust 'https://c.exa"),
    "a tenant of none": (guard_of, {"tenant": "acme"}, "has no tenants"),
    "no tenant of several": (
        lambda: Guard(Issuer(TENANT, audience=API, tenants=["a", "b"])),
        {},
        "has several: choose one",
    ),
    "no tenant of any": (
        lambda: Guard(Issuer(TENANT, audience=API, tenants=lambda _: True)),
        {},
        "has several: choose one",
    ),
    "a tenant that is not allowed": (
        lambda: Guard(Issuer(TENANT, audience=API, tenants=["a", "b"])),
        {"tenant": "c"},
        "does not allow 'c'",
    ),
}


@pytest.mark.parametrize(("make", "options", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_choice_is_refused_with_the_choices(
    make: Callable[[], Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)), trusted(make(), **options):
        pass


def test_what_has_a_guard_stands_for_it() -> None:
    from flask import Flask

    from bearerguard.flask import BearerGuard

    guard = guard_of()
    middleware = BearerMiddleware(app_of(guard), guard=guard)
    flask = Flask("app")
    flask.config.update(BEARERGUARD_ISSUER=ISSUER, BEARERGUARD_AUDIENCE=API)
    BearerGuard(flask)
    for has_one in (middleware, app_of(guard), BearerGuard(guard=guard), flask):
        with trusted(has_one) as issuer:
            assert issuer.url == ISSUER
    flask.add_url_rule("/", view_func=lambda: "hello")
    with trusted(flask), acting_as(flask.test_client()) as client:
        assert client.get("/").text == "hello"


def test_an_app_of_quart_stands_for_the_guard_of_its_settings() -> None:
    from quart import Quart

    from bearerguard.quart import BearerGuard, current_principal

    app = Quart("app")
    app.config.update(BEARERGUARD_ISSUER=ISSUER, BEARERGUARD_AUDIENCE=API)
    BearerGuard(app)

    @app.get("/")
    async def show() -> str:
        return current_principal.subject or ""

    async def use() -> None:
        client = app.test_client()
        with trusted(app), acting_as(client, subject="ada"):
            assert await (await client.get("/")).get_data(as_text=True) == "ada"
        assert (await client.get("/")).status_code == 401

    anyio.run(use)


def test_what_observes_a_guard_observes_its_tests() -> None:
    seen: list[DecisionRecord] = []

    class Observer:
        def decided(self, record: DecisionRecord) -> None:
            seen.append(record)

        def fetched(self, record: Any) -> None:
            pass

    guard = Guard(Issuer(ISSUER, audience=API, keys=OTHER_KEYS.jwks()), observers=[Observer()])
    client = TestClient(app_of(guard))
    with trusted(guard):
        acting_as(client, scopes=["read"])
        for status in (200, 200):
            assert client.get("/recordings").status_code == status
    assert client.get("/recordings").status_code == 401
    assert [record.result for record in seen] == ["allow", "allow", "deny"]


def test_a_guard_beside_its_authorization_server_is_tested_without_the_server(
    tmp_path: Any,
) -> None:
    server = AuthorizationServer(
        ISSUER,
        store=f"sqlite:///{tmp_path}/auth.db",
        secret=SECRET,
        resources=[Resource(API), Resource(f"{API}/2", tokens="opaque")],
    )
    guard = Guard(server.issuer(audience=API))
    with trusted(guard) as issuer:
        assert guard.verify(issuer.token(scopes=["read"])).scopes == {"read"}
        assert guard.verify(issuer.opaque_token(subject="ada")).subject == "ada"
        token = issuer.token()
        guard.revoke(token)
        with pytest.raises(TokenError):
            guard.verify(token)
    server.close()


def test_revocations_of_a_block_end_with_it_and_use_no_store() -> None:
    store = RedisStore("redis://127.0.0.1:1", secret=SECRET)  # nothing listens there
    shared = Revocations(store, max_token_life=7200)
    cache = IntrospectionCache(store, secret=SECRET)
    guard = Guard(
        Issuer(
            ISSUER,
            audience=API,
            introspection=Introspection(client_id="a", client_secret="b"),
        ),
        revocations=shared,
        introspection_cache=cache,
    )
    with trusted(guard) as issuer:
        token = issuer.token(subject="ada")
        assert guard.verify(token).subject == "ada"
        assert guard.verify(issuer.opaque_token()).subject == "user"
        guard.revoke(subject="ada")
        with pytest.raises(TokenError):
            guard.verify(token)
    assert guard.options["revocations"] is shared
    assert len(shared.current) == 0
    guard.close()


def test_back_channel_logout_goes_by_the_test_issuer() -> None:
    guard = Guard(Issuer(ISSUER, audience=API), revocations=Revocations())
    logout = BackchannelLogout(guard, client_id="web")
    client = TestClient(Starlette(routes=[Mount("/logout", app=logout.asgi)]))
    with trusted(guard) as issuer:
        token = issuer.token(subject="ada")
        assert guard.verify(token).subject == "ada"
        issuer.clock.advance(2)
        now = int(issuer.clock())
        claims = {
            "iss": issuer.url,
            "aud": "web",
            "iat": now,
            "exp": now + 60,
            "jti": "1",
            "sub": "ada",
            "events": {EVENT: {}},
        }
        head = {"alg": issuer.key.algorithm, "kid": issuer.key.kid, "typ": "logout+jwt"}
        body = {"logout_token": sign(head, claims, issuer.key)}
        assert client.post("/logout/", data=body).status_code == 200
        with pytest.raises(TokenError):
            guard.verify(token)
    assert client.post("/logout/", data=body).status_code in {400, 503}


def test_an_app_made_inside_the_block_follows_its_guard_out_of_it() -> None:
    guard = guard_of(keys=OTHER_KEYS.jwks())
    with trusted(guard) as issuer:
        client = TestClient(app_of(guard))
        acting_as(client, scopes=["read"])
        assert client.get("/recordings").status_code == 200
        issuer.clock.advance(-100)
    assert client.get("/recordings").status_code == 401
    sent = OTHER_KEYS.headers(scopes=["read"], claims={"iss": ISSUER, "aud": API})
    assert client.get("/recordings", headers=sent).status_code == 200


def test_the_options_that_a_guard_shows_are_all_of_its_constructor() -> None:
    guard = Guard(Issuer(ISSUER, audience=API), realm="recordings")
    assert set(guard.options) == set(GuardOptions.__annotations__)
    assert guard.options["realm"] == "recordings"
    again = Guard(*guard.issuers, **guard.options)
    assert (again.realm, again.issuers) == (guard.realm, guard.issuers)


def test_a_transport_of_the_guard_s_own_is_not_used() -> None:
    class Failing(HttpTransport):
        def fetch(self, request: Any) -> Any:
            raise AssertionError(request.url)

    guard = Guard(Issuer(ISSUER, audience=API), transport=Failing())
    with trusted(guard) as issuer:
        assert guard.verify(issuer.token()).subject == "user"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_guard_is_tested_in_an_event_loop(backend: str) -> None:
    guard = guard_of()

    async def use() -> None:
        with trusted(guard) as issuer:
            token = issuer.token(subject="ada")
            issuer.delay = 0.01
            assert (await guard.averify(token)).subject == "ada"
            await guard.aclose()
            assert (await guard.averify(token)).subject == "ada"

    anyio.run(use, backend=backend)


def test_a_guard_with_a_test_clock_keeps_it() -> None:
    clock = Clock(NOON)
    guard = Guard(Issuer(ISSUER, audience=API), clock=clock)
    with trusted(guard) as issuer:
        assert issuer.clock is clock
