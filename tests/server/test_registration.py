"""Dynamic client registration (DCR-01, DCR-02; RFC 7591)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bearerguard import ConfigurationError
from bearerguard.runtime.messages import Request, StoreFailed
from bearerguard.runtime.rate_limits import Charge
from bearerguard.server import PeopleOptions, RateLimit, Registered, Registration, User
from bearerguard.testing import SigningKey
from tests.faults.size import size
from tests.server.harness import Harness, Make, Reply

STORED = pytest.mark.both_engines
REGISTER = "/oauth/register"
REDIRECT = "http://localhost:6274/oauth/callback"
TOKEN = "an-initial-access-token-of-many-letters"
KEY = SigningKey.generate("ES256", "client-key")
# What the MCP SDKs of Python and TypeScript send.
PYTHON = {
    "client_name": "Agent",
    "redirect_uris": [REDIRECT],
    "token_endpoint_auth_method": "client_secret_post",
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "scope": "read offline_access unheard-of",
    "application_type": "native",
}
TYPESCRIPT = {
    "client_name": "Agent",
    "client_uri": "https://agent.example.com",
    "logo_uri": "javascript:alert(1)",
    "redirect_uris": [REDIRECT],
    "token_endpoint_auth_method": "none",
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "contacts": ["ops@agent.example.com"],
    "software_id": "agent",
    "software_version": "1.0",
}


# From a hundred addresses, several from each.
REQUESTS = size(10_000, 600)


class Site:
    """A server at which clients register themselves."""

    def __init__(self, make: Make, **options: Any) -> None:
        people = options.pop("people", {})
        self.harness = make(registration=Registration(**options), **people)

    def register(
        self, content: Any = None, *, address: str = "198.51.100.7", **headers: str
    ) -> Reply:
        fields = {"content-type": "application/json"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        body = content if isinstance(content, bytes) else json.dumps(content or PYTHON).encode()
        request = Request("POST", REGISTER, fields, body, peer=address)
        return Reply(self.harness.server.handle(request))

    def registered(self, **content: Any) -> Registered:
        reply = self.register({**TYPESCRIPT, **content})
        assert reply.status == 201, reply.json
        client = self.harness.server.clients.get(reply.json["client_id"])
        return Registered(client, reply.json.get("client_secret"))

    @property
    def reason(self) -> str:
        (*_, event) = self.harness.named("request_refused")
        return str(event.details["reason"])


@pytest.fixture
def site(make: Make) -> Site:
    return Site(make)


def test_DCR_01_registration_is_off_by_default(harness: Harness) -> None:
    assert harness.send("POST", REGISTER, b"{}").status == 404
    document = harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert "registration_endpoint" not in document


def test_DCR_01_the_response_has_what_is_registered_and_is_never_stored(site: Site) -> None:
    reply = site.register(PYTHON)
    assert reply.status == 201
    assert reply.header("cache-control") == "no-store"
    assert reply.header("content-type") == "application/json"
    content = reply.json
    assert content.pop("client_id").startswith("client-")
    assert content.pop("client_secret").startswith("bgs_")
    assert content == {
        "client_id_issued_at": int(site.harness.clock()),
        "client_secret_expires_at": 0,
        "client_name": "Agent",
        "redirect_uris": [REDIRECT],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_post",
        "scope": "read write",
        "application_type": "native",
    }
    document = site.harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert document["registration_endpoint"] == "https://api.example.com/oauth/register"
    (event,) = site.harness.named("client_registered")
    assert event.details["method"] == "client_secret"


@STORED
def test_DCR_01_a_client_that_registered_itself_lives_its_whole_life(site: Site) -> None:
    harness, client = site.harness, site.registered()
    assert client.client_secret is None
    issued = harness.tokens(client)
    assert issued["scope"] == "read write"
    renewed = harness.refresh(issued["refresh_token"], client).json
    assert harness.server.introspect(renewed["access_token"])["client_id"] == client.client_id
    (known,) = [each for each in harness.server.clients.all() if each.registered_by]
    assert (known.client_id, known.registered_by) == (client.client_id, "request")
    harness.server.clients.remove(client.client_id)
    assert harness.server.introspect(renewed["access_token"]) == {"active": False}


@pytest.mark.parametrize("announced", ["client_secret_post", "client_secret_basic", None])
def test_DCR_01_a_secret_is_accepted_in_either_form(site: Site, announced: str | None) -> None:
    reply = site.register({**PYTHON, "token_endpoint_auth_method": announced})
    assert reply.json["token_endpoint_auth_method"] == (announced or "client_secret_basic")
    client = Registered(
        site.harness.server.clients.get(reply.json["client_id"]), reply.json["client_secret"]
    )
    assert site.harness.tokens(client)["access_token"]


def test_DCR_01_a_client_with_keys_registers_them(site: Site) -> None:
    content = {**PYTHON, "token_endpoint_auth_method": "private_key_jwt"}
    reply = site.register({**content, "jwks": {"keys": [KEY.jwk()]}})
    assert reply.json["jwks"] == {"keys": [KEY.jwk()]}
    assert "client_secret" not in reply.json
    elsewhere = site.register({**content, "jwks_uri": "https://169.254.169.254/keys"})
    assert elsewhere.error == (400, "invalid_client_metadata")
    assert site.reason == "unsupported_jwks_uri"


def test_DCR_01_what_a_client_does_not_say_has_the_usual_value(site: Site) -> None:
    content = site.register({"redirect_uris": [REDIRECT]}).json
    assert content["client_name"] == "localhost:6274"
    assert "application_type" not in content
    assert content["grant_types"] == ["authorization_code", "refresh_token"]
    assert content["token_endpoint_auth_method"] == "client_secret_basic"
    named = site.register({"redirect_uris": ["cursor://anysphere.cursor-mcp/oauth/callback"]})
    assert named.json["client_name"] == "cursor"


@pytest.mark.parametrize(
    ("members", "error", "reason"),
    [
        ({"redirect_uris": None}, "invalid_redirect_uri", "missing_redirect_uris"),
        ({"redirect_uris": []}, "invalid_redirect_uri", "missing_redirect_uris"),
        ({"redirect_uris": [REDIRECT] * 21}, "invalid_redirect_uri", "missing_redirect_uris"),
        ({"redirect_uris": REDIRECT}, "invalid_redirect_uri", "missing_redirect_uris"),
        *(
            ({"redirect_uris": [uri]}, "invalid_redirect_uri", "unfit_redirect_uri")
            for uri in (
                "javascript:alert(1)",
                "data:text/html,x",
                "http://evil.example.com/cb",
                "https://*.example.com/cb",
                "https://example.com/cb#fragment",
                "https://me@example.com/cb",
                "https://example.com/\u202e",
                "ms-msdt:/x",
                "",
                7,
            )
        ),
        ({"application_type": "web"}, "invalid_redirect_uri", "redirect_uri_not_of_the_web"),
        (
            {"application_type": "web", "redirect_uris": ["https://localhost/cb"]},
            "invalid_redirect_uri",
            "redirect_uri_not_of_the_web",
        ),
        (
            {"application_type": "web", "redirect_uris": ["com.example.app:/cb"]},
            "invalid_redirect_uri",
            "redirect_uri_not_of_the_web",
        ),
        ({"application_type": ["web"]}, "invalid_client_metadata", "unknown_application_type"),
        ({"application_type": "tv"}, "invalid_client_metadata", "unknown_application_type"),
        (
            {"token_endpoint_auth_method": "tls_client_auth"},
            "invalid_client_metadata",
            "unsupported_auth_method",
        ),
        (
            {"token_endpoint_auth_method": ["none"]},
            "invalid_client_metadata",
            "unsupported_auth_method",
        ),
        (
            {"token_endpoint_auth_method": "private_key_jwt"},
            "invalid_client_metadata",
            "missing_jwks",
        ),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": "x"}},
            "invalid_client_metadata",
            "unfit_client",
        ),
        (
            {"grant_types": ["client_credentials"]},
            "invalid_client_metadata",
            "unsupported_grant_type",
        ),
        ({"grant_types": "code"}, "invalid_client_metadata", "malformed_grant_types"),
        ({"response_types": ["token"]}, "invalid_client_metadata", "unsupported_response_type"),
    ],
)
def test_DCR_01_metadata_that_is_not_possible_is_refused_and_nothing_is_stored(
    site: Site, members: dict[str, Any], error: str, reason: str
) -> None:
    before = site.harness.store.count("clients")
    reply = site.register({**PYTHON, **members})
    assert reply.error == (400, error)
    assert reply.json["error_description"].isascii()
    assert '"' not in reply.json["error_description"]
    assert site.reason == reason
    assert site.harness.store.count("clients") == before


def test_DCR_01_an_application_of_the_web_and_a_native_one_say_what_they_are(site: Site) -> None:
    of_the_web = {"redirect_uris": ["https://agent.example.com/cb"], "application_type": "web"}
    assert site.register(of_the_web).status == 201
    apps = ["com.example.app:/cb", "vscode://example.agent/cb", REDIRECT]
    assert site.register({"redirect_uris": apps, "application_type": "native"}).status == 201


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "invalid_client_metadata"),
        (b"[]", "invalid_client_metadata"),
        (b"{", "invalid_client_metadata"),
        (b'{"redirect_uris": [], "redirect_uris": []}', "invalid_client_metadata"),
        (b"\xff", "invalid_client_metadata"),
        (b"[" * 30_000, "invalid_client_metadata"),
    ],
)
def test_DCR_01_a_body_that_is_no_json_object_is_refused(
    site: Site, body: bytes, error: str
) -> None:
    assert site.register(body or b" ").error == (400, error)


def test_DCR_01_a_body_of_another_type_and_another_method_are_refused(site: Site) -> None:
    reply = site.register(PYTHON, content_type="application/x-www-form-urlencoded")
    assert reply.error == (400, "invalid_request")
    assert site.harness.send("GET", REGISTER).status == 405
    with_charset = site.register(PYTHON, content_type="application/json; charset=utf-8")
    assert with_charset.status == 201


def test_DCR_01_a_page_of_any_origin_registers_itself_and_then_reads_its_tokens(
    site: Site,
) -> None:
    origin = "http://localhost:6274"
    preflight = site.harness.send(
        "OPTIONS",
        REGISTER,
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="content-type, mcp-protocol-version",
    )
    assert preflight.header("access-control-allow-origin") == "*"
    assert preflight.header("access-control-allow-methods") == "POST"
    assert "mcp-protocol-version" in (preflight.header("access-control-allow-headers") or "")
    assert site.register(PYTHON, origin=origin).header("access-control-allow-origin") == "*"
    token = site.harness.post("/oauth/token", {}, origin=origin)
    assert token.header("access-control-allow-origin") == origin


def test_DCR_02_an_initial_access_token_is_needed_where_the_operator_says_so(make: Make) -> None:
    site = Site(make, initial_access_token=[TOKEN, TOKEN + "-older"])
    for headers in ({}, {"authorization": "Basic eDp5"}):
        reply = site.register(**headers)
        assert reply.error == (401, "invalid_token")
        assert reply.header("www-authenticate") == 'Bearer realm="oauth"'
    assert site.reason == "missing_initial_access_token"
    for wrong in ("Bearer wrong", "Bearer a b", "Bearer"):
        reply = site.register(authorization=wrong)
        assert 'error="invalid_token"' in (reply.header("www-authenticate") or "")
    assert site.reason == "wrong_initial_access_token"
    for right in (TOKEN, TOKEN + "-older"):
        assert site.register(authorization=f"Bearer {right}").status == 201


def test_DCR_02_one_address_registers_a_few_clients_and_is_told_when_to_come_back(
    make: Make,
) -> None:
    site = Site(make, per_address=RateLimit(attempts=3, interval=60))
    assert [site.register().status for _ in range(4)] == [201, 201, 201, 429]
    limited = site.register()
    assert limited.error == (429, "temporarily_unavailable")
    assert limited.header("retry-after") == "60"
    assert site.reason == "too_many_registrations"
    assert site.register(address="198.51.100.8").status == 201
    site.harness.clock.now += 60
    assert site.register().status == 201


def test_DCR_02_what_is_refused_is_not_charged(make: Make) -> None:
    site = Site(make, per_address=RateLimit(attempts=1, interval=60))
    assert site.register({"redirect_uris": []}).status == 400
    assert site.register().status == 201


@STORED
def test_DCR_02_thousands_of_requests_leave_a_bounded_number_of_rows(make: Make) -> None:
    site = Site(make, in_all=RateLimit(attempts=50, interval=10))
    body = json.dumps(TYPESCRIPT).encode()
    before = site.harness.store.count("clients")
    statuses = [
        site.register(body, address=f"198.51.{number % 100}.{number % 50}").status
        for number in range(REQUESTS)
    ]
    assert statuses.count(201) == 50
    assert statuses.count(429) == REQUESTS - 50
    assert site.harness.store.count("clients") == before + 50
    assert site.harness.store.count("login_attempts") <= 101
    site.harness.clock.now += 86_401
    for _ in range(2):
        site.harness.server.prune()
    for table in ("clients", "registrations", "client_origins", "login_attempts"):
        assert site.harness.store.count(table) == (before if table == "clients" else 0)


@STORED
def test_DCR_02_a_client_that_is_used_is_kept_until_nobody_uses_it(make: Make) -> None:
    site = Site(make, unused_lifetime=10 * 86_400)
    harness, client = site.harness, site.registered()
    unused = site.registered()

    def known(registered: Registered) -> bool:
        harness.server.prune()
        return registered.client_id in {each.client_id for each in harness.server.clients.all()}

    harness.clock.now += 86_000
    issued = harness.tokens(client)
    harness.clock.now += 86_000
    assert (known(client), known(unused)) == (True, False)
    harness.clock.now += 20 * 86_400
    assert known(client)
    assert harness.refresh(issued["refresh_token"], client).status == 200
    harness.clock.now += 31 * 86_400
    known(client)
    harness.clock.now += 86_401
    assert not known(client)


class Elsewhere:
    """A shared store of limits, which fails when it is told to."""

    def __init__(self) -> None:
        self.charged: list[Charge] = []
        self.wait = 0.0
        self.fails = False

    def charge(self, charges: Any) -> float:
        if self.fails:
            raise StoreFailed("it is away")
        self.charged += charges
        return self.wait

    def release(self, **_: Any) -> None:
        """Keep what was charged."""

    def close(self) -> None:
        """Do nothing."""


def test_DCR_02_workers_share_the_limits_and_the_database_has_them_in_an_outage(
    make: Make,
) -> None:
    shared = Elsewhere()
    people = PeopleOptions(
        current_user=lambda _: User("ada", "Ada"),
        login_url="https://app.example.com/login",
        throttle=shared,
    )
    site = Site(make, per_address=RateLimit(attempts=1, interval=60), people={"people": people})
    assert [site.register().status for _ in range(2)] == [201, 201]
    assert len({each.key for each in shared.charged}) == 2
    assert "198.51.100.7" not in str(shared.charged)
    shared.wait = 1.5
    assert site.register().header("retry-after") == "2"
    shared.fails = True
    assert [site.register().status for _ in range(2)] == [201, 429]
    assert len(site.harness.named("throttle_unavailable")) == 2
    shared.fails, shared.wait = False, 0.0
    assert site.register().status == 201
    assert len(site.harness.named("throttle_restored")) == 1


def test_AZ_11_a_client_that_registered_itself_is_pointed_out(site: Site) -> None:
    page = site.harness.authorize(site.registered(client_name="Your\u202e Bank"))
    text = page.response.body.decode()
    assert "Your Bank asks for access" in text
    assert "This app registered itself here. Nobody has checked its name." in text
    assert "Any program on your device could pretend to be this app" in text
    assert "localhost:6274" in text
    own = site.harness.authorize(site.harness.phone).response.body.decode()
    assert "registered itself" not in own


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"initial_access_token": "short"}, "initial_access_token="),
        ({"initial_access_token": []}, "initial_access_token="),
        ({"initial_access_token": 7}, "initial_access_token="),
        ({"initial_access_token": ["x" * 40, "two words" * 9]}, "initial_access_token="),
        ({"scopes": "read"}, "scopes="),
        ({"per_address": 10}, "per_address="),
        ({"in_all": RateLimit(attempts=0, interval=1)}, "in_all="),
        ({"unused_lifetime": -1}, "unused_lifetime="),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_by_its_name(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Registration(**options)


def test_no_repr_has_the_initial_access_token() -> None:
    assert TOKEN not in repr(Registration(initial_access_token=TOKEN))


def test_the_scopes_of_those_who_register_are_named_by_the_operator(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="registration=: name the scopes"):
        make(registration=Registration(), scopes=None)


def test_those_who_register_may_have_the_chosen_scopes_alone(make: Make) -> None:
    site = Site(make, scopes=["read"])
    assert site.register().json["scope"] == "read"
