"""Clients that are identified by the URL of their metadata document (CIMD-01, CIMD-02)."""

from __future__ import annotations

import base64
import json
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote_plus, urlencode

import anyio
import pytest

from bearerguard import ConfigurationError, FetchFailed, Guard
from bearerguard.protocol import pkce
from bearerguard.protocol.jose import base64url
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Request, Response
from bearerguard.server import ClientMetadataDocuments
from bearerguard.testing import SigningKey, sign
from bearerguard.testing.loopback import serving
from tests.server.devices import Device
from tests.server.harness import ISSUER, SCOPES, VERIFIER, Harness, Make, Reply

STORED = pytest.mark.both_engines
HOST = "client.example.com"
URL = f"https://{HOST}/metadata.json"
LOCAL = "http://127.0.0.1/callback"
HOSTED = f"https://{HOST}/callback"
JSON = ("Content-Type", "application/json")


def metadata(**members: Any) -> dict[str, Any]:
    given = {
        "client_id": URL,
        "client_name": "Example agent",
        "redirect_uris": [HOSTED, LOCAL],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "client_uri": "javascript:alert(1)",
        "logo_uri": "data:text/html,<script>alert(1)</script>",
        "software_id": "not used",
        **members,
    }
    return {name: value for name, value in given.items() if value is not None}


class Web:
    """The web of strangers: what each URL returns, and which requests were made."""

    def __init__(self) -> None:
        self.answers: dict[str, Response | FetchFailed] = {}
        self.asked: list[Fetch] = []

    def publish(self, url: str = URL, *headers: tuple[str, str], **members: Any) -> None:
        body = json.dumps(metadata(**{"client_id": url, **members})).encode()
        self.answers[url] = Response(200, (JSON, *headers), body)

    def fetch(self, request: Fetch) -> Response:
        self.asked.append(request)
        answer = self.answers.get(request.url, Response(404))
        if isinstance(answer, FetchFailed):
            raise answer
        return answer

    async def afetch(self, request: Fetch) -> Response:
        await anyio.lowlevel.checkpoint()
        return self.fetch(request)


class Agent:
    """A client with a document, at a server that has never heard of it."""

    def __init__(self, make: Make, **options: Any) -> None:
        self.web = Web()
        self.web.publish()
        self._make = make
        self.harness = self.server(**options)

    def server(self, **options: Any) -> Harness:
        documents = ClientMetadataDocuments(transport=self.web, **options)
        return self._make(client_metadata=documents)

    def authorize(self, client_id: str = URL, **fields: Any) -> Reply:
        usual = {
            "client_id": client_id,
            "redirect_uri": HOSTED,
            "response_type": "code",
            "scope": "read",
            "code_challenge": pkce.challenge(VERIFIER),
            "code_challenge_method": "S256",
        }
        return self.harness.send("GET", f"/oauth/authorize?{urlencode(usual | fields)}")

    def code(self, **fields: Any) -> str:
        page = self.authorize(**fields)
        assert page.status == 200, page.response
        return self.harness.consent(page).sent["code"]

    def token(self, proof: str | None = None, **fields: Any) -> Reply:
        headers = {} if proof is None else {"dpop": proof}
        return self.harness.post("/oauth/token", {"client_id": URL, **fields}, **headers)

    def redeem(self, code: str, **fields: Any) -> Reply:
        return self.token(
            grant_type="authorization_code",
            code=code,
            redirect_uri=HOSTED,
            code_verifier=VERIFIER,
            **fields,
        )

    def refused(self, **members: Any) -> str:
        """Publish an unfit document; return the reason in the log, the page being a safe one."""
        self.web.publish(**members)
        return self.reason()

    def reason(self, client_id: str = URL, *, status: int = 400) -> str:
        before = self.harness.store.count("clients")
        page = self.authorize(client_id)
        assert page.status == status
        assert page.header("location") is None
        assert "text/html" in (page.header("content-type") or "")
        assert self.harness.store.count("clients") == before, "nothing is stored"
        (*_, event) = self.harness.named("request_refused")
        assert event.details["client_id"] == client_id[:200]
        return str(event.details["reason"])


@pytest.fixture
def agent(make: Make) -> Agent:
    return Agent(make)


def test_ADP_01_a_document_can_say_that_its_client_needs_a_proof(agent: Agent) -> None:
    agent.web.publish(dpop_bound_access_tokens=True)
    code = agent.code()
    assert agent.redeem(code).error == (400, "invalid_dpop_proof")
    assert agent.redeem(code, proof=Device().proof(agent.harness)).json["token_type"] == "DPoP"


def test_ADP_01_a_document_that_says_so_in_another_way_is_refused(agent: Agent) -> None:
    reason = agent.refused(dpop_bound_access_tokens="yes")
    assert reason == "document_malformed_dpop_bound_access_tokens"


@STORED
def test_CIMD_01_a_client_that_is_unknown_lives_its_whole_life_by_its_document(
    agent: Agent,
) -> None:
    harness = agent.harness
    issued = agent.redeem(agent.code()).json
    assert issued["scope"] == "read"
    with Guard(harness.server.issuer(), clock=harness.clock) as guard:
        principal = guard.verify(issued["access_token"])
        assert (principal.client_id, principal.subject) == (URL, "ada")
    renewed = agent.token(grant_type="refresh_token", refresh_token=issued["refresh_token"]).json
    assert harness.server.introspect(renewed["access_token"])["client_id"] == URL
    (known,) = [each for each in harness.server.clients.all() if each.client_id == URL]
    assert (known.registered_by, known.name) == ("document", "Example agent")
    revoked = harness.post("/oauth/revoke", {"client_id": URL, "token": renewed["refresh_token"]})
    assert revoked.status == 200
    assert harness.server.introspect(renewed["access_token"]) == {"active": False}
    again = agent.token(grant_type="refresh_token", refresh_token=renewed["refresh_token"])
    assert again.error == (400, "invalid_grant")
    assert [each.url for each in agent.web.asked] == [URL]
    assert {event.details["client_id"] for event in harness.named("token_issued")} == {URL}


def test_CIMD_01_the_metadata_says_that_documents_are_taken(agent: Agent, make: Make) -> None:
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        assert agent.harness.send("GET", path).json["client_id_metadata_document_supported"] is True
        assert "client_id_metadata_document_supported" not in make().send("GET", path).json


def test_CIMD_01_documents_are_off_by_default(make: Make) -> None:
    page = make().send("GET", f"/oauth/authorize?{urlencode({'client_id': URL})}")
    assert page.status == 400
    assert "not known" in page.response.body.decode()


@STORED
def test_CIMD_01_removing_the_client_ends_its_tokens_and_a_later_consent_begins_anew(
    agent: Agent,
) -> None:
    harness = agent.harness
    issued = agent.redeem(agent.code()).json
    harness.server.clients.remove(URL)
    harness.clock.now += 61
    assert harness.server.introspect(issued["access_token"]) == {"active": False}
    again = agent.token(grant_type="refresh_token", refresh_token=issued["refresh_token"])
    assert again.error == (400, "invalid_grant")
    assert agent.redeem(agent.code()).status == 200


@STORED
def test_CIMD_01_a_client_that_is_being_removed_gets_no_code(agent: Agent) -> None:
    agent.redeem(agent.code())
    statement = "UPDATE clients SET access_lifetime = -1 WHERE client_id = :id"
    agent.harness.store.run(statement, {"id": URL})
    refused = agent.harness.consent(agent.authorize()).sent
    assert refused["error"] == "temporarily_unavailable"


@pytest.mark.parametrize(
    "client_id",
    [
        f"https://{HOST}",
        f"https://{HOST}/",
        f"https://{HOST}/a/../metadata.json",
        f"https://{HOST}/a/%2e%2e/metadata.json",
        f"https://{HOST}/./metadata.json",
        f"https://{HOST}/metadata.json#one",
        f"https://me@{HOST}/metadata.json",
        f"https://me:secret@{HOST}/metadata.json",
        f"https://{HOST}/" + "a" * 200,
        f"https://{HOST}/a b",
        "https:///metadata.json",
        "https://[client/metadata.json",
    ],
)
def test_CIMD_01_a_client_id_that_is_no_url_of_a_document_is_never_fetched(
    agent: Agent, client_id: str
) -> None:
    assert agent.reason(client_id) == "unfit_client_id"
    assert agent.web.asked == []


@pytest.mark.parametrize("client_id", ["http://client.example.com/m", "ftp://x/m", "urn:x"])
def test_CIMD_01_a_client_id_of_another_scheme_is_an_unknown_name(
    agent: Agent, client_id: str
) -> None:
    assert agent.reason(client_id) == "unknown_client"
    assert agent.web.asked == []


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"client_id": URL + "?"}, "document_of_another_client"),
        ({"client_id": None}, "document_of_another_client"),
        ({"token_endpoint_auth_method": "client_secret_basic"}, "document_with_secret"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "document_with_secret"),
        ({"token_endpoint_auth_method": "client_secret_jwt"}, "document_with_secret"),
        ({"client_secret": "x"}, "document_with_secret"),
        ({"client_secret_expires_at": 0}, "document_with_secret"),
        ({"token_endpoint_auth_method": ["none"]}, "document_unsupported_auth_method"),
        ({"token_endpoint_auth_method": "tls_client_auth"}, "document_unsupported_auth_method"),
        ({"redirect_uris": None}, "document_missing_redirect_uris"),
        ({"redirect_uris": []}, "document_missing_redirect_uris"),
        ({"redirect_uris": HOSTED}, "document_missing_redirect_uris"),
        ({"redirect_uris": ["javascript:alert(1)"]}, "document_unfit_redirect_uri"),
        ({"redirect_uris": [HOSTED, "https://x.example/*"]}, "document_unfit_redirect_uri"),
        ({"redirect_uris": [7]}, "document_unfit_redirect_uri"),
        ({"response_types": ["token"]}, "document_unsupported_response_type"),
        ({"response_types": "code"}, "document_malformed_response_types"),
        ({"grant_types": ["client_credentials"]}, "document_unsupported_grant_type"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "document_missing_jwks"),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": "none"}},
            "document_unfit",
        ),
        (
            {"token_endpoint_auth_method": "private_key_jwt", "jwks": {}, "jwks_uri": URL},
            "document_two_jwks",
        ),
    ],
)
def test_CIMD_01_an_unfit_document_is_refused_with_a_page_and_its_reason_in_the_log(
    agent: Agent, members: dict[str, Any], reason: str
) -> None:
    agent.web.answers[URL] = Response(200, (JSON,), json.dumps(metadata(**members)).encode())
    assert agent.reason() == reason


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        (Response(302, (("Location", "https://other.example/"),)), "document_redirect", 400),
        (Response(404), "document_status", 400),
        (Response(500), "document_status", 503),
        (Response(429), "document_status", 503),
        (Response(200, (("Content-Type", "text/html"),), b"{}"), "document_not_json", 400),
        (Response(200, (JSON,), b"[]"), "document_not_json", 400),
        (Response(200, (JSON,), b" " * 5121), "document_too_large", 400),
        (FetchFailed("5 MB", kind="too_large"), "document_too_large", 400),
        (FetchFailed("slow", kind="timed_out"), "document_timed_out", 503),
        (FetchFailed("10.0.0.1", kind="forbidden"), "document_forbidden", 400),
        (FetchFailed("refused", kind="refused"), "document_refused", 503),
    ],
)
def test_CIMD_01_what_is_not_a_document_is_refused_and_never_cached(
    agent: Agent, answer: Response | FetchFailed, reason: str, status: int
) -> None:
    agent.web.answers[URL] = answer
    assert agent.reason(status=status) == reason
    token = agent.redeem("any code")
    if status == 503:
        assert token.error == (503, "temporarily_unavailable")
        assert int(token.header("retry-after") or "") > 0
    else:
        assert token.error == (401, "invalid_client")
    agent.web.publish()
    agent.harness.clock.now += 1
    assert agent.authorize().status == 200


def test_CIMD_01_a_redirect_uri_that_the_document_does_not_have_is_refused(agent: Agent) -> None:
    page = agent.authorize(redirect_uri="https://evil.example.com/cb")
    assert (page.status, page.header("location")) == (400, None)
    assert agent.authorize(redirect_uri="http://127.0.0.1:49152/callback").status == 200


def test_CIMD_01_the_document_gives_no_scope_and_no_grant_that_the_server_does_not(
    make: Make,
) -> None:
    agent = Agent(make, scopes=["read"])
    agent.web.publish(
        scope="read write admin", grant_types=["authorization_code", "client_credentials"]
    )
    issued = agent.redeem(agent.code(scope="read write")).json
    assert (issued["scope"], "refresh_token" in issued) == ("read", False)
    own = agent.token(grant_type="client_credentials")
    assert own.error == (400, "unauthorized_client")


def test_CIMD_02_a_hundred_logins_at_once_fetch_a_document_once(make: Make) -> None:
    asked: list[Request] = []
    begun = threading.Event()

    def respond(request: Request) -> Response:
        asked.append(request)
        begun.wait(10)
        return Response(200, (JSON,), body)

    with serving(respond) as site:
        url = f"{site}/metadata.json"
        body = json.dumps(metadata(client_id=url)).encode()
        documents = ClientMetadataDocuments(insecure_allow_loopback=True)
        agent = Agent(make)
        agent.harness = make(client_metadata=documents)
        with ThreadPoolExecutor(100) as threads:
            pages = [threads.submit(agent.authorize, url) for _ in range(100)]
            begun.set()
            assert {each.result().status for each in pages} == {200}
    assert len(asked) == 1


def test_CIMD_02_a_hundred_logins_at_once_on_an_event_loop_fetch_a_document_once(
    agent: Agent,
) -> None:
    app = agent.harness.server.asgi_app()
    statuses: list[int] = []
    query = urlencode(
        {
            "client_id": URL,
            "redirect_uri": HOSTED,
            "response_type": "code",
            "code_challenge": pkce.challenge(VERIFIER),
            "code_challenge_method": "S256",
        }
    )
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/oauth/authorize",
        "query_string": query.encode(),
        "headers": [],
        "client": ("192.0.2.1", 1),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(app, dict(scope), receive, send)

    anyio.run(main)
    assert statuses == [200] * 100
    assert len(agent.web.asked) == 1


def test_CIMD_02_a_slow_host_takes_no_thread_of_the_event_loops_host(agent: Agent) -> None:
    harness, web = agent.harness, agent.web
    app = harness.server.asgi_app()
    replies: dict[str, int] = {}

    class Slow(Web):
        async def afetch(self, request: Fetch) -> Response:
            web.asked.append(request)
            if len(web.asked) == 40:
                all_wait.set()
            await anyio.sleep(3600)
            return Response(404)

    slow, all_wait = Slow(), anyio.Event()
    harness.server._engine._documents._asynchronous[Fetch] = slow.afetch  # type: ignore[union-attr]

    async def ask(client_id: str, number: int = 0) -> None:
        basic = base64.b64encode(f"{quote_plus(client_id)}:x".encode())
        claims = base64url.encode(json.dumps({"sub": client_id}).encode()).decode()
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assertion = f"eyJhbGciOiJFUzI1NiJ9.{claims}.AA"
        query = urlencode({"client_id": client_id}).encode()
        form = (b"content-type", b"application/x-www-form-urlencoded")
        # The ways in which a request names its client.
        method, path, fields, body = (
            ("GET", "/oauth/authorize", [], b""),
            ("POST", "/oauth/token", [form], query),
            ("POST", "/oauth/token", [form, (b"authorization", b"Basic " + basic)], b""),
            (
                "POST",
                "/oauth/revoke",
                [form],
                urlencode({"client_assertion": assertion, "client_assertion_type": kind}).encode(),
            ),
        )[number % 4]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                replies[client_id] = message["status"]

        scope = {"type": "http", "method": method, "path": path, "headers": fields}
        await app({**scope, "query_string": query, "client": None}, receive, send)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(ask, f"https://slow{number}.example.com/m", number)
            with anyio.fail_after(60):
                await all_wait.wait()
            await ask(harness.app.client_id)
            tasks.cancel_scope.cancel()

    anyio.run(main)
    assert list(replies) == [harness.app.client_id]


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ([], 3600),
        ([("Cache-Control", "max-age=600")], 600),
        ([("Cache-Control", "max-age=600"), ("Age", "100")], 500),
        ([("Cache-Control", "max-age=5")], 60),
        ([("Cache-Control", "no-store")], 60),
        ([("Cache-Control", "private, no-cache")], 60),
        ([("Cache-Control", "max-age=31536000")], 86_400),
        (
            [
                ("Date", "Sun, 29 Nov 2026 10:00:00 GMT"),
                ("Expires", "Sun, 29 Nov 2026 10:10:00 GMT"),
            ],
            600,
        ),
        ([("Expires", "0")], 60),
    ],
)
def test_CIMD_02_a_document_is_used_for_as_long_as_http_allows_within_bounds(
    agent: Agent, fields: list[tuple[str, str]], seconds: int
) -> None:
    agent.web.publish(URL, *fields)
    agent.authorize()
    agent.harness.clock.now += seconds - 1
    agent.authorize()
    assert len(agent.web.asked) == 1
    agent.harness.clock.now += 1
    agent.authorize()
    assert len(agent.web.asked) == 2


def test_CIMD_02_a_document_that_has_not_changed_is_not_sent_again(agent: Agent) -> None:
    agent.web.publish(URL, ("ETag", '"one"'), ("Last-Modified", "Sun, 29 Nov 2026 10:00:00 GMT"))
    agent.authorize()
    for _ in range(2):
        agent.harness.clock.now += 3600
        agent.web.answers[URL] = Response(304)
        assert agent.authorize().status == 200
        sent = dict(agent.web.asked[-1].headers)
        assert sent["if-none-match"] == '"one"'
        assert sent["if-modified-since"] == "Sun, 29 Nov 2026 10:00:00 GMT"


def test_CIMD_02_older_metadata_is_never_used_past_its_age(agent: Agent) -> None:
    issued = agent.redeem(agent.code()).json
    agent.harness.clock.now += 3600
    agent.web.answers[URL] = FetchFailed("no route", kind="unreachable")
    assert agent.reason(status=503) == "document_unreachable"
    refused = agent.token(grant_type="refresh_token", refresh_token=issued["refresh_token"])
    assert refused.error == (503, "temporarily_unavailable")
    agent.web.publish()
    agent.harness.clock.now += 1
    again = agent.token(grant_type="refresh_token", refresh_token=issued["refresh_token"])
    assert again.status == 200


@STORED
def test_CIMD_02_a_change_of_the_document_is_seen_after_its_age(agent: Agent) -> None:
    agent.redeem(agent.code())
    agent.web.publish(client_name="Renamed", redirect_uris=["https://new.example.com/cb"])
    assert agent.authorize().status == 200
    agent.harness.clock.now += 3600
    assert agent.authorize().status == 400
    page = agent.authorize(redirect_uri="https://new.example.com/cb")
    agent.harness.consent(page)
    (known,) = [each for each in agent.harness.server.clients.all() if each.client_id == URL]
    assert (known.name, known.redirect_uris) == ("Renamed", ("https://new.example.com/cb",))
    assert known.origins == ("https://new.example.com",)
    assert not agent.harness.server.clients.is_origin(f"https://{HOST}")


def test_CIMD_02_nobody_has_this_server_ask_a_host_again_and_again(agent: Agent) -> None:
    agent.web.answers.clear()
    reasons = set()
    for number in range(100):
        page = agent.authorize(f"https://{HOST}/{number}")
        reasons.add(page.status)
    assert len(agent.web.asked) == 10
    assert reasons == {400, 503}
    agent.web.publish("https://other.example.com/m")
    assert agent.authorize("https://other.example.com/m").status == 200
    agent.harness.clock.now += 6
    agent.authorize(f"https://{HOST}/another")
    assert len(agent.web.asked) == 12


def test_CIMD_02_a_failure_answers_who_asks_within_a_second(agent: Agent) -> None:
    agent.web.answers.clear()
    for _ in range(5):
        assert agent.reason() == "document_status"
    assert len(agent.web.asked) == 1


@pytest.mark.parametrize(
    ("allow", "is_allowed"),
    [
        ([HOST], True),
        (["*.example.com"], True),
        (["example.com"], False),
        (["*.client.example.com"], False),
        (["ient.example.com", "*.ent.example.com"], False),
        ([], False),
    ],
)
def test_CIMD_02_only_the_allowed_hosts_are_asked(
    make: Make, allow: list[str], is_allowed: bool
) -> None:
    agent = Agent(make, allow=allow)
    assert agent.authorize().status == (200 if is_allowed else 400)
    assert len(agent.web.asked) == int(is_allowed)


def test_CIMD_02_a_policy_of_the_operator_decides_about_each_document(make: Make) -> None:
    seen: list[tuple[str, Any]] = []

    def policy(url: str, document: Any) -> bool:
        seen.append((url, document["software_id"]))
        return bool(document["software_id"] == "trusted")

    agent = Agent(make, policy=policy)
    assert agent.reason() == "document_not_trusted"
    agent.harness.clock.now += 1
    agent.web.publish(software_id="trusted")
    assert agent.authorize().status == 200
    assert seen == [(URL, "not used"), (URL, "trusted")]


def test_CIMD_02_a_policy_that_fails_is_the_servers_fault(make: Make) -> None:
    agent = Agent(make, policy=lambda url, document: document["missing"])
    assert agent.authorize().status == 503
    assert agent.redeem("x").status == 503


@pytest.mark.parametrize("inline", [True, False])
def test_CIMD_02_a_client_proves_itself_with_the_keys_that_it_publishes(
    agent: Agent, *, inline: bool
) -> None:
    keys_url = f"https://{HOST}/keys.json"

    def publish(key: SigningKey) -> None:
        jwks = {"keys": [key.jwk()]}
        agent.web.answers[keys_url] = Response(200, (JSON,), json.dumps(jwks).encode())
        given = {"jwks": jwks} if inline else {"jwks_uri": keys_url}
        agent.web.publish(token_endpoint_auth_method="private_key_jwt", **given)

    def redeem(key: SigningKey) -> Reply:
        content = {
            "iss": URL,
            "sub": URL,
            "aud": ISSUER,
            "exp": int(agent.harness.clock()) + 60,
            "jti": uuid.uuid4().hex,
        }
        signed = sign({"alg": key.algorithm, "kid": key.kid}, content, key)
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        return agent.redeem(agent.code(), client_assertion=signed, client_assertion_type=kind)

    first, second = (SigningKey.generate("ES256", name) for name in ("one", "two"))
    publish(first)
    assert redeem(first).status == 200
    assert redeem(second).error == (401, "invalid_client")
    assert agent.redeem(agent.code()).error == (401, "invalid_client")
    publish(second)
    agent.harness.clock.now += 3600 if inline else 600  # keys are fetched again sooner
    assert redeem(second).status == 200
    assert redeem(first).error == (401, "invalid_client")


@pytest.mark.parametrize(
    "jwks_uri",
    [
        "https://other.example.com/keys",
        f"http://{HOST}/keys",
        f"https://{HOST}:8443/keys",
        "https://127.0.0.1/keys",
        "https://[x/keys",
    ],
)
def test_CIMD_02_keys_of_another_origin_are_refused(agent: Agent, jwks_uri: str) -> None:
    reason = agent.refused(token_endpoint_auth_method="private_key_jwt", jwks_uri=jwks_uri)
    assert reason == "document_jwks_elsewhere"
    assert [each.url for each in agent.web.asked] == [URL]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Good\u202e agent\u2066", "Good agent"),
        ("\u202e\u2066", HOST),
        ("\u3164\u2800", HOST),
        (None, HOST),
        (7, HOST),
        ("x" + "\u0301" * 50, HOST),
        ("  a\n\n b\u00a0", "a b"),
        ("n" * 3000, "n" * 100),
        ("<script>", "&lt;script&gt;"),
        ("\u05d0\u05d1", "\u2068\u05d0\u05d1\u2069"),
    ],
)
def test_CIMD_01_a_name_is_shown_so_that_it_deceives_nobody(
    agent: Agent, name: Any, shown: str
) -> None:
    agent.web.publish(client_name=name)
    page = agent.authorize().response.body.decode()
    assert f">{shown} asks for access to your account</h1>" in page
    assert f"<strong>{HOST}</strong>" in page


def test_AZ_11_the_page_shows_the_documents_host_and_where_the_user_is_sent_back(
    agent: Agent,
) -> None:
    page = " ".join(re.sub(r"<[^>]+>", " ", agent.authorize().response.body.decode()).split())
    assert "Example agent asks for access" in page
    assert f"This app is published at {HOST}" in page
    assert f"You will be sent back to {HOST}" in page
    assert "Any program on your device" not in page
    assert "javascript" not in page
    assert "data:" not in page


def test_AZ_11_a_client_whose_redirects_are_all_on_the_device_is_pointed_out(
    agent: Agent,
) -> None:
    agent.web.publish(redirect_uris=[LOCAL, "http://localhost:1234/cb"])
    page = agent.authorize(redirect_uri=LOCAL).response.body.decode()
    assert "Any program on your device could pretend to be this app" in page
    assert "127.0.0.1" in page


def test_CIMD_01_a_client_that_the_operator_registered_under_a_url_is_that_client(
    agent: Agent,
) -> None:
    agent.harness.server.clients.add(
        "Registered", client_id=URL, public=True, redirect_uris=[HOSTED], scopes=list(SCOPES)
    )
    assert "Registered asks for access" in agent.authorize().response.body.decode()
    assert agent.redeem(agent.code()).status == 200
    assert agent.web.asked == []
    anyio.run(agent.harness.server._engine._documents.prepare, URL)  # type: ignore[union-attr]
    assert agent.web.asked == []


def test_CIMD_01_what_the_store_has_of_a_client_is_not_used_when_documents_are_turned_off(
    agent: Agent,
) -> None:
    agent.redeem(agent.code())
    off = agent.harness.another(people=agent.harness.people)
    query = urlencode({"client_id": URL, "redirect_uri": HOSTED, "response_type": "code"})
    assert off.handle(Request("GET", f"/oauth/authorize?{query}")).status == 400


def test_CIMD_01_its_pages_may_read_the_tokens_that_are_theirs(agent: Agent) -> None:
    code = agent.code()
    reply = agent.harness.post(
        "/oauth/token",
        {
            "client_id": URL,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": HOSTED,
            "code_verifier": VERIFIER,
        },
        origin=f"https://{HOST}",
    )
    assert reply.header("access-control-allow-origin") == f"https://{HOST}"


@STORED
def test_CIMD_02_a_client_that_nobody_uses_is_forgotten_and_one_with_a_grant_is_kept(
    make: Make,
) -> None:
    agent = Agent(make, unused_lifetime=1000)
    agent.redeem(agent.code())
    harness = agent.harness

    def known() -> bool:
        harness.server.prune()
        return URL in {each.client_id for each in harness.server.clients.all()}

    harness.clock.now += 1001
    assert known()
    harness.clock.now += 181 * 86_400
    assert not known()
    harness.server.prune()  # its rows go the next time
    assert agent.redeem(agent.code()).status == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"allow": "example.com"}, "allow="),
        ({"allow": ["https://example.com"]}, "allow="),
        ({"allow": ["Example.com"]}, "allow="),
        ({"policy": "all"}, "policy="),
        ({"scopes": "read"}, "scopes="),
        ({"max_age": -1}, "max_age="),
        ({"timeout": 0}, "timeout="),
        ({"unused_lifetime": 0}, "unused_lifetime="),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_by_its_name(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ClientMetadataDocuments(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scopes": None}, "client_metadata=: name the scopes"),
        (
            {"client_metadata": ClientMetadataDocuments(transport=Web(), scopes=["admin"])},
            "has no scope 'admin'",
        ),
        ({"client_metadata": True}, r"pass ClientMetadataDocuments\(...\)"),
        (
            {"client_metadata": ClientMetadataDocuments(transport=object())},  # type: ignore[arg-type]
            "fetch and afetch",
        ),
    ],
)
def test_a_server_that_cannot_take_documents_says_why_at_its_start(
    make: Make, options: dict[str, Any], words: str
) -> None:
    given = {"client_metadata": ClientMetadataDocuments(transport=Web()), **options}
    with pytest.raises(ConfigurationError, match=words):
        make(**given)


def test_CIMD_02_no_more_than_fifty_documents_are_fetched_at_once(agent: Agent) -> None:
    let_go, waiting = threading.Event(), threading.Semaphore(0)

    def slow(request: Fetch) -> Response:
        waiting.release()
        let_go.wait(30)
        return Response(404)

    agent.harness.server._engine._documents._sync[Fetch] = slow  # type: ignore[union-attr]
    with ThreadPoolExecutor(50) as threads:
        try:
            for number in range(50):
                threads.submit(agent.authorize, f"https://slow{number}.example.com/m")
            for _ in range(50):
                assert waiting.acquire(timeout=30)
            assert agent.reason(status=503) == "too_many_documents"
        finally:
            let_go.set()
    agent.harness.clock.now += 1
    assert agent.reason("https://slow1.example.com/m") == "document_status"


@STORED
def test_CIMD_01_a_client_that_an_operator_registers_meanwhile_stays_as_it_is(
    agent: Agent,
) -> None:
    harness = agent.harness
    described = harness.server.clients.resolve(URL)
    assert described is not None
    harness.server.clients.add("Own", client_id=URL, redirect_uris=[HOSTED], scopes=["read"])
    with harness.server.database.write() as connection:
        harness.server.clients.note_use(connection, described)
    own = harness.server.clients.get(URL)
    assert (own.name, own.registered_by) == ("Own", None)
    assert harness.store.count("registrations") == 0
