"""Observers of a server: one record for each response, and nothing that a stranger chooses."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from bearerguard import ConfigurationError, Request, Response
from bearerguard.server import (
    Client,
    OAuthError,
    Parameters,
    PeopleOptions,
    RequestRecord,
    TokenResponse,
    UpstreamLogin,
)
from bearerguard.server.observers import Observers
from tests.server.harness import Harness, Make

EXCHANGE = "urn:example:exchange"


class Recorder:
    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.store: list[str] = []

    def responded(self, record: RequestRecord) -> None:
        self.records.append(record)

    def store_failed(self) -> None:
        self.store.append("failed")

    def store_restored(self) -> None:
        self.store.append("restored")

    @property
    def last(self) -> RequestRecord:
        return self.records[-1]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def harness(make: Make, recorder: Recorder) -> Harness:
    return make(observers=[recorder])


def test_each_response_of_the_token_endpoint_makes_one_record(
    harness: Harness, recorder: Recorder
) -> None:
    harness.token(grant_type="client_credentials")
    record = recorder.last
    assert (record.endpoint, record.method) == ("token", "POST")
    assert (record.status, record.error, record.outcome) == (200, None, "ok")
    assert record.grant_type == "client_credentials"
    assert record.issued == ("access_token",)
    assert len(recorder.records) == 1


def test_a_record_names_both_tokens_of_a_code_and_of_a_refresh(
    harness: Harness, recorder: Recorder
) -> None:
    tokens = harness.tokens()
    harness.refresh(tokens["refresh_token"])
    issued = [(each.endpoint, each.grant_type, each.issued) for each in recorder.records]
    both = ("access_token", "refresh_token")
    assert issued == [
        ("authorization", None, ()),
        ("token", "authorization_code", both),
        ("token", "refresh_token", both),
    ]


def test_a_record_of_a_refusal_has_the_error_of_the_response(
    harness: Harness, recorder: Recorder
) -> None:
    reply = harness.token(client_secret="wrong", grant_type="client_credentials")
    record = recorder.last
    assert (record.status, record.error) == reply.error == (401, "invalid_client")
    assert (record.grant_type, record.outcome) == ("client_credentials", "refused")
    assert record.issued == ()


def test_a_refusal_that_a_redirect_carries_is_a_refusal_in_the_record(
    harness: Harness, recorder: Recorder
) -> None:
    reply = harness.authorize(scope="unknown")
    assert reply.sent["error"] == recorder.last.error == "invalid_scope"
    assert (recorder.last.status, recorder.last.outcome) == (303, "refused")


def test_a_redirect_with_a_code_is_a_success_in_the_record(
    harness: Harness, recorder: Recorder
) -> None:
    assert "code" in harness.authorize().sent
    assert (recorder.last.status, recorder.last.outcome) == (303, "ok")


def test_nothing_that_a_request_chooses_is_in_a_record(
    harness: Harness, recorder: Recorder
) -> None:
    strange = "chosen-by-a-stranger"
    harness.token(grant_type=strange)
    assert (recorder.last.grant_type, recorder.last.error) == ("other", "unsupported_grant_type")
    harness.post("/oauth/token", {"client_id": strange, "grant_type": strange, "scope": strange})
    harness.send(strange.upper(), f"/oauth/token?{strange}", user_agent=strange)
    assert (recorder.last.method, recorder.last.status) == ("other", 405)
    harness.authorize(scope=strange, state=strange, client_id=strange)
    harness.introspect(strange)
    for record in recorder.records:
        assert strange not in repr(record).lower()
        assert harness.app.client_id not in repr(record)
    assert len(recorder.records) == 5


def test_a_malformed_form_has_no_grant_type(harness: Harness, recorder: Recorder) -> None:
    harness.post("/oauth/token", [("grant_type", "a"), ("grant_type", "b")])
    assert (recorder.last.grant_type, recorder.last.error) == (None, "invalid_request")
    harness.token()
    assert (recorder.last.grant_type, recorder.last.error) == (None, "invalid_request")


def test_each_endpoint_has_a_name_that_does_not_depend_on_the_issuers_path(
    make: Make, recorder: Recorder
) -> None:
    harness = make(
        observers=[recorder], issuer="https://example.com/auth", health_path="/health", people=None
    )
    for path in harness.server.paths:
        harness.server.handle(Request("GET", path, {}, b""))
    assert {each.endpoint for each in recorder.records} == {
        *("authorization", "consent", "token", "revocation", "introspection"),
        "pushed_authorization",
        *("jwks", "metadata", "login", "logout", "account", "health", "live"),
        *("device_authorization", "device"),
    }


def test_a_path_that_is_none_of_the_server_makes_no_record(
    harness: Harness, recorder: Recorder
) -> None:
    assert harness.send("GET", "/wp-login.php").status == 404
    assert recorder.records == []


@pytest.mark.sqlite_only
def test_each_failure_of_the_database_is_counted_and_its_end_once(
    harness: Harness, recorder: Recorder
) -> None:
    path = harness.folder / "auth.db"
    path.rename(path.with_name("away"))
    for _ in range(2):
        assert harness.token(grant_type="client_credentials").status == 503
    record = recorder.last
    assert (record.error, record.outcome) == ("temporarily_unavailable", "unavailable")
    failures = len(recorder.store)
    assert failures >= 2
    path.with_name("away").rename(path)
    for _ in range(2):
        assert harness.token(grant_type="client_credentials").status == 200
    assert recorder.store == ["failed"] * failures + ["restored"]


def test_a_grant_that_raises_makes_a_record_of_the_503(
    harness: Harness, recorder: Recorder
) -> None:
    class Broken:
        grant_type = EXCHANGE

        def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
            raise RuntimeError("of the application")

    harness.server.grants.register(Broken())
    client = harness.add("Exchange", grant_types=[EXCHANGE], redirect_uris=[])
    assert harness.token(client, grant_type=EXCHANGE).status == 503
    assert (recorder.last.grant_type, recorder.last.outcome) == (EXCHANGE, "unavailable")


def test_an_exception_that_leaves_the_server_is_recorded_as_500(recorder: Recorder) -> None:
    def respond() -> Response:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Observers([recorder]).observed("token", "POST", respond)
    assert (recorder.last.status, recorder.last.outcome) == (500, "unavailable")


def test_a_body_that_is_too_large_and_a_login_without_a_thread_make_records(
    make: Make, recorder: Recorder
) -> None:
    engine = make(observers=[recorder], people=None).server._engine
    assert engine.too_large("/oauth/token", "POST").status == 413
    assert engine.busy(Request("POST", "/oauth/login?x=y")).status == 503
    assert [(each.endpoint, each.status, each.outcome) for each in recorder.records] == [
        ("token", 413, "refused"),
        ("login", 503, "unavailable"),
    ]


def test_a_program_that_finds_no_thread_gets_json_and_people_get_a_page(make: Make) -> None:
    upstream = UpstreamLogin(
        "https://idp.example.com",
        name="Example",
        client_id="x",
        client_secret="y",
        domains=["x.example"],
    )
    engine = make(people=PeopleOptions(upstreams=[upstream])).server._engine
    path = "/oauth/backchannel_logout/example"
    by_type = {
        each: engine.busy(Request("POST", each)).header("content-type")
        for each in (path, "/oauth/login", "/oauth/login/callback/example?state=x")
    }
    assert by_type.pop(path) == "application/json"
    assert set(by_type.values()) == {"text/html; charset=utf-8"}


def test_an_observer_that_raises_is_logged_and_harms_no_request(
    make: Make, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorder):
        def responded(self, record: RequestRecord) -> None:
            raise RuntimeError(record.endpoint)

    harness = make(observers=[Broken(), recorder])
    for _ in range(3):
        assert harness.token(grant_type="client_credentials").status == 200
    assert len(recorder.records) == 3
    lines = [each for each in caplog.records if "Broken raised" in each.getMessage()]
    assert [(each.levelno, each.name) for each in lines] == [(logging.ERROR, "bearerguard.server")]


@pytest.mark.parametrize("given", [Recorder, [Recorder], [object()], "metrics", None, Recorder()])
def test_what_is_no_list_of_observers_is_refused_at_the_start(make: Make, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"observers=: .*responded, store_failed and"):
        make(observers=given)


def test_the_duration_is_measured_with_the_clock_of_the_server(
    make: Make, recorder: Recorder
) -> None:
    harness = make(observers=[recorder])

    class Slow:
        grant_type = EXCHANGE

        def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
            harness.clock.now += 3
            raise OAuthError("invalid_grant", "Too late")

    harness.server.grants.register(Slow())
    client = harness.add("Exchange", grant_types=[EXCHANGE], redirect_uris=[])
    harness.token(client, grant_type=EXCHANGE)
    assert recorder.last.seconds == 3
