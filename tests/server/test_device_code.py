"""Device authorization (RFC 8628): the endpoint, the polls, and who decides."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlencode

import pytest

from bearerguard import ConfigurationError, Request
from bearerguard.protocol import names
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server import (
    Lifetimes,
    OAuthError,
    Parameters,
    Registered,
    Registration,
    Resource,
    Scope,
    User,
)
from bearerguard.server.endpoints import device_authorization
from bearerguard.server.grants.device_code import ALPHABET, shown
from bearerguard.server.store.connection import Connection
from tests.faults.size import size
from tests.server.devices import Device
from tests.server.harness import FORM, ISSUER, Harness, Make, Reply, claims, hidden_fields
from tests.server.statements import recorded

ASK = "/oauth/device_authorization"
PAGE = "/oauth/device"
REPORTS = "https://reports.example.com"
PENDING, SLOW = (400, "authorization_pending"), (400, "slow_down")


class Screen:
    """A device without a keyboard, whose client is public unless it is given."""

    def __init__(self, harness: Harness, client: Registered | None = None, **asked: Any) -> None:
        self.harness = harness
        self.client = client or screen_client(harness)
        reply = harness.post(ASK, {**self.credentials, **asked})
        assert reply.status == 200, reply.json
        self.shown = reply.json
        self.user_code: str = reply.json["user_code"]

    @property
    def credentials(self) -> dict[str, Any]:
        return self.harness.credentials(self.client)

    def poll(self, client: Registered | None = None, **fields: Any) -> Reply:
        given = {"grant_type": names.DEVICE_CODE, "device_code": self.shown["device_code"]}
        return self.harness.token(client or self.client, **(given | fields))


def screen_client(harness: Harness, name: str = "Screen", **options: Any) -> Registered:
    given: dict[str, Any] = {
        "public": True,
        "redirect_uris": [],
        "grant_types": ["device_code", "refresh_token"],
    }
    return harness.add(name, **(given | options))


class Person:
    """Somebody who is signed in, with a browser."""

    def __init__(self, harness: Harness, peer: str = "") -> None:
        self.harness = harness
        self.peer = peer
        self.cookie = ""

    def open(self, url: str = PAGE) -> Reply:
        return self._kept(self.harness.send("GET", url, cookie=self.cookie))

    def enter(self, code: str) -> Reply:
        return self.send(self.open(), user_code=code)

    def send(self, page: Reply, **fields: str) -> Reply:
        form = hidden_fields(page.response.body.decode())
        return self._kept(self.harness.post(PAGE, {**form, **fields}, cookie=self.cookie))

    def decide(self, code: str, decision: str = "allow") -> Reply:
        page = self.enter(code)
        assert page.status == 200, text(page)
        return self.send(page, decision=decision)

    def _kept(self, reply: Reply) -> Reply:
        self.cookie = (reply.header("set-cookie") or self.cookie).partition(";")[0]
        return reply


def text(page: Reply) -> str:
    return page.response.body.decode().partition("<main")[2]


@pytest.mark.both_engines
def test_DEV_01_a_device_gets_tokens_after_somebody_has_allowed_it(harness: Harness) -> None:
    screen, person = Screen(harness, scope="read"), Person(harness)
    page = f"{ISSUER}{PAGE}"
    assert re.fullmatch(r"[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}", screen.user_code)
    assert screen.shown == {
        "device_code": screen.shown["device_code"],
        "user_code": screen.user_code,
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={screen.user_code}",
        "expires_in": 600,
        "interval": 5,
    }
    assert screen.poll().error == PENDING
    done = person.decide(screen.user_code)
    assert done.status == 200
    assert "go back to your device" in text(done)
    issued = screen.poll()
    assert issued.status == 200
    assert issued.json["scope"] == "read"
    found = claims(issued.json["access_token"])
    assert (found["sub"], found["client_id"], found["auth_time"]) == (
        "ada",
        screen.client.client_id,
        1_699_999_000,
    )
    assert harness.server.introspect(issued.json["access_token"])["active"]
    refreshed = harness.refresh(issued.json["refresh_token"], screen.client)
    assert refreshed.status == 200
    assert refreshed.json["scope"] == "read"
    (given,) = harness.named("consent_given")
    assert given.details == {
        "client_id": screen.client.client_id,
        "user_id": "ada",
        "scope": "read",
        "remembered": False,
    }


@pytest.mark.both_engines
def test_DEV_01_a_code_gives_tokens_once_and_what_it_gave_stays(harness: Harness) -> None:
    screen = Screen(harness)
    Person(harness).decide(screen.user_code)
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: screen.poll(), range(20)))
    won = [reply for reply in replies if reply.status == 200]
    assert len(won) == 1
    assert {reply.error for reply in replies if reply is not won[0]} == {(400, "invalid_grant")}
    # A device that asks once more after a lost response is no thief.
    assert screen.poll().error == (400, "invalid_grant")
    assert harness.server.introspect(won[0].json["access_token"])["active"]
    assert harness.store.count("grants") == 1


@pytest.mark.both_engines
def test_DEV_01_one_of_two_people_decides(harness: Harness) -> None:
    screen, person = Screen(harness), Person(harness)
    pages = [person.enter(screen.user_code) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = list(
            pool.map(
                lambda n: Person.send(person, pages[n], decision=("allow", "deny")[n % 2]), range(8)
            )
        )
    assert sorted(reply.status for reply in done) == [200] + [400] * 7
    allowed = len(harness.named("consent_given"))
    assert allowed + len(harness.named("consent_refused")) == 1
    assert screen.poll().status == (200 if allowed else 400)


def test_DEV_01_a_device_that_polls_too_fast_is_slowed_down_for_good(harness: Harness) -> None:
    screen = Screen(harness)
    asked = []

    def poll(after: float) -> None:
        harness.clock.now += after
        asked.append(screen.poll().error)

    for seconds in (0, 5, 5, 2, 10, 9.9, 5, 15, 14, 10):
        poll(seconds)
    # After 2 s: 10 s between polls. After 5 s: 15 s. A second less is forgiven; after 10 s: 20 s.
    assert asked == [PENDING] * 3 + [SLOW] + [PENDING] * 2 + [SLOW] + [PENDING] * 2 + [SLOW]
    assert harness.store.run("SELECT poll_interval FROM device_codes") == [(20,)]


@pytest.mark.both_engines
def test_DEV_01_all_processes_keep_to_one_pace(harness: Harness) -> None:
    screen = Screen(harness)
    assert [screen.poll().error for _ in range(2)] == [PENDING, SLOW]
    harness.server.close()
    harness.server = harness.another(people=harness.people)
    harness.clock.now += 8
    assert screen.poll().error == SLOW, "the other process was asked 8 s ago"
    harness.clock.now += 7
    assert screen.poll().error == PENDING


@pytest.mark.both_engines
def test_DEV_01_of_polls_at_the_same_time_one_is_in_time(harness: Harness) -> None:
    screen = Screen(harness)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: screen.poll().error, range(4)))
    assert sorted(found) == [PENDING, SLOW, SLOW, SLOW]
    assert harness.store.run("SELECT poll_interval FROM device_codes") == [(20,)]


def test_DEV_01_a_clock_that_is_behind_or_was_set_back_slows_no_device_down(
    harness: Harness,
) -> None:
    screen = Screen(harness)
    screen.poll()
    harness.clock.now -= 400
    assert [screen.poll().error for _ in range(2)] == [PENDING, SLOW]


@pytest.mark.both_engines
def test_DEV_01_a_flood_of_polls_ends_in_no_more_transactions_that_write(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen(harness)
    for _ in range(130):
        screen.poll()
    kept = harness.store.run("SELECT poll_interval, polled_at FROM device_codes")
    assert kept == [(600, harness.clock.now)]
    harness.clock.now += 500
    writers = []
    write = harness.server.database.write

    def noted(*, concurrent: bool = False) -> AbstractContextManager[Connection]:
        writers.append(threading.current_thread())  # upkeep has its own
        return write(concurrent=concurrent)

    monkeypatch.setattr(harness.server.database, "write", noted)
    assert screen.poll().error == SLOW
    assert threading.current_thread() not in writers
    harness.clock.now += 99
    assert screen.poll().error == PENDING
    assert threading.current_thread() in writers
    kept = [(600, harness.clock.now)]
    assert harness.store.run("SELECT poll_interval, polled_at FROM device_codes") == kept
    harness.clock.now -= 400
    assert screen.poll().error == PENDING, "the clock was set back"


@pytest.mark.both_engines
def test_DEV_01_a_poll_at_the_right_pace_reads_one_row_and_writes_one(harness: Harness) -> None:
    screen = Screen(harness)
    screen.poll()
    harness.clock.now += 5
    with recorded() as sent:
        assert screen.poll().error == PENDING
    ours = [sql.split()[0] for sql, _ in sent if "device_codes" in sql]
    assert ours == ["SELECT", "UPDATE"]
    with recorded() as sent:
        assert screen.poll().error == SLOW
    ours = [sql.split()[0] for sql, _ in sent if "device_codes" in sql]
    assert ours == ["SELECT", "UPDATE", "UPDATE"]


def test_DEV_01_a_code_that_nobody_entered_in_time_has_expired(make: Make) -> None:
    harness = make(lifetimes=Lifetimes(device_code=120))
    screen, person = Screen(harness), Person(harness)
    page = person.enter(screen.user_code)
    assert screen.shown["expires_in"] == 120
    harness.clock.now += 121
    assert screen.poll().error == (400, "expired_token")
    late = person.send(page, decision="allow")
    assert (late.status, "has expired" in text(late)) == (400, True)
    assert person.enter(screen.user_code).status == 400
    harness.server.prune()
    assert screen.poll().error == (400, "expired_token")
    harness.clock.now += 3600
    harness.server.prune()
    assert harness.store.count("device_codes") == 0
    assert screen.poll().error == (400, "invalid_grant")


def test_DEV_01_what_was_refused_is_access_denied(harness: Harness) -> None:
    screen, person = Screen(harness), Person(harness)
    done = person.decide(screen.user_code, "deny")
    assert (done.status, "gets no access" in text(done)) == (200, True)
    assert screen.poll().error == (400, "access_denied")
    assert person.enter(screen.user_code).status == 400  # decided for good
    (refused,) = harness.named("consent_refused")
    assert refused.details["user_id"] == "ada"
    assert refused.details["client_id"] == screen.client.client_id


def test_DEV_01_a_code_is_its_clients_alone(harness: Harness) -> None:
    screen, other = Screen(harness), screen_client(harness, "Other")
    Person(harness).decide(screen.user_code)
    assert screen.poll(other).error == (400, "invalid_grant")
    assert screen.poll(device_code="bgd_unknown").error == (400, "invalid_grant")
    assert screen.poll(device_code=None).error == (400, "invalid_request")
    assert screen.poll(harness.app).error == (400, "unauthorized_client")
    assert screen.poll().status == 200


def test_DEV_01_a_client_must_be_registered_for_it_and_authenticate(harness: Harness) -> None:
    refused = harness.post(ASK, harness.credentials())
    assert refused.error == (400, "unauthorized_client")
    television = harness.add(
        "Television", grant_types=["device_code"], redirect_uris=[], require_consent=True
    )
    wrong = harness.post(ASK, {"client_id": television.client_id, "client_secret": "wrong"})
    assert wrong.error == (401, "invalid_client")
    screen = Screen(harness, television)
    Person(harness).decide(screen.user_code)
    tokens = screen.poll().json
    assert claims(tokens["access_token"])["sub"] == "ada"
    assert "refresh_token" not in tokens  # it is not registered for one
    assert harness.send("GET", ASK).status == 405
    assert harness.send("POST", ASK, b"{}", content_type="application/json").status == 400


def test_DEV_01_AZ_09_scopes_and_resources_are_read_as_elsewhere(make: Make) -> None:
    harness = make(resources=[ISSUER, Resource(REPORTS, tokens="opaque")])
    client = screen_client(harness)
    known = harness.credentials(client)
    assert harness.post(ASK, known | {"scope": "admin"}).error == (400, "invalid_scope")
    assert harness.post(ASK, known | {"resource": "https://no.example"}).error == (
        400,
        "invalid_target",
    )
    screen = Screen(harness, client, scope="read admin", resource=REPORTS)
    page = Person(harness).enter(screen.user_code)
    assert "Read your recordings" in text(page)
    assert "Change your recordings" not in text(page)
    assert REPORTS in text(page)
    Person(harness).decide(screen.user_code)
    tokens = screen.poll().json
    assert tokens["scope"] == "read"
    assert (
        harness.introspect(tokens["access_token"], harness.add("API", introspects=[REPORTS]))["aud"]
        == REPORTS
    )


def test_DEV_01_a_token_request_may_be_for_one_of_the_resources(make: Make) -> None:
    harness = make(resources=[ISSUER, REPORTS])
    screen = Screen(harness, resource=ISSUER)
    both = harness.post(
        ASK,
        [*harness.credentials(screen.client).items(), ("resource", ISSUER), ("resource", REPORTS)],
    )
    screen.shown = both.json
    Person(harness).decide(both.json["user_code"])
    tokens = screen.poll(resource=REPORTS).json
    assert claims(tokens["access_token"])["aud"] == REPORTS
    refreshed = harness.refresh(tokens["refresh_token"], screen.client, resource=ISSUER).json
    assert claims(refreshed["access_token"])["aud"] == ISSUER


def test_DEV_01_tokens_are_bound_to_the_key_of_the_poll(harness: Harness) -> None:
    screen, device = Screen(harness), Device()
    Person(harness).decide(screen.user_code)
    tokens = screen.poll(proof=device.proof(harness)).json
    assert tokens["token_type"] == "DPoP"
    assert claims(tokens["access_token"])["cnf"] == {"jkt": device.thumbprint}
    stolen = harness.refresh(tokens["refresh_token"], screen.client)
    assert stolen.error == (400, "invalid_grant")
    owned = harness.refresh(tokens["refresh_token"], screen.client, proof=device.proof(harness))
    assert owned.status == 200


def test_DEV_01_a_revocation_between_consent_and_poll_ends_it(harness: Harness) -> None:
    screen = Screen(harness)
    Person(harness).decide(screen.user_code)
    harness.server.revoke_user(user_id="ada")
    assert screen.poll().error == (400, "expired_token")


def test_DEV_01_a_removed_client_gets_nothing_and_its_codes_are_removed(harness: Harness) -> None:
    screen = Screen(harness)
    Person(harness).decide(screen.user_code)
    waiting = Screen(harness, screen.client)
    harness.server.clients.remove(screen.client.client_id)
    assert Person(harness).enter(waiting.user_code).status == 400
    assert screen.poll().error == (401, "invalid_client")
    harness.server.prune()
    assert harness.store.count("device_codes") == 0


def test_DEV_01_a_client_that_is_removed_while_its_device_polls_gets_nothing(
    harness: Harness,
) -> None:
    screen = Screen(harness)
    Person(harness).decide(screen.user_code)
    harness.server.clients.remove(screen.client.client_id)
    grant = harness.server.grants[names.DEVICE_CODE]
    values = {"grant_type": names.DEVICE_CODE, "device_code": screen.shown["device_code"]}
    harness.store.run(  # as it is while pruning has not come so far
        "INSERT INTO device_codes (digest, user_code, client_id, scope, resources, created_at,"
        " expires_at, poll_interval, decided_at, user_id) VALUES (:d, 'u', :c, 'read', '[]', 1,"
        " 1e10, 5, 1, 'ada')",
        {
            "d": harness.server._engine.codes._secret.digest("device code", "other"),
            "c": screen.client.client_id,
        },
    )
    for device_code in (values["device_code"], "other"):
        parameters = Parameters({**values, "device_code": device_code})
        with pytest.raises(OAuthError, match="invalid_grant"):
            grant.handle(screen.client.client, parameters)
    assert harness.store.count("grants") == 0


def test_DEV_01_what_is_stored_are_digests(harness: Harness) -> None:
    screen = Screen(harness)
    letters = screen.user_code.replace("-", "")
    for content in harness.store.contents().values():
        for secret in (screen.shown["device_code"], screen.user_code, letters):
            assert secret.encode() not in content
    logged = repr([event.details for event in harness.events])
    assert screen.user_code not in logged
    assert screen.shown["device_code"] not in logged


def test_DEV_01_two_devices_never_show_the_same_code(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Chance alone would take billions of codes.
    letters = iter("B" * 8 + "B" * 8 + "C" * 8)
    monkeypatch.setattr(secrets, "choice", lambda _: next(letters))
    client = screen_client(harness)
    codes = [Screen(harness, client).user_code for _ in range(2)]
    assert codes == ["BBBB-BBBB", "CCCC-CCCC"]


# Who asks


def test_DEV_01_requests_of_anybody_are_limited_by_address(harness: Harness) -> None:
    client = screen_client(harness)
    known = harness.credentials(client)
    statuses = [harness.post(ASK, known).status for _ in range(60 * 5)]  # no address: five times
    assert set(statuses) == {200}
    refused = harness.post(ASK, known)
    assert refused.error == (429, "temporarily_unavailable")
    assert refused.header("retry-after") == "1"
    television = harness.add("Television", grant_types=["device_code"], redirect_uris=[])
    assert harness.post(ASK, harness.credentials(television)).status == 200
    harness.clock.now += 1
    assert harness.post(ASK, known).status == 200


@pytest.mark.parametrize(
    ("networks", "issued"), [("2001:db8::{:x}", 60), ("2001:db8:0:{:x}::1", 4 * 60)]
)
def test_DEV_01_an_ipv6_site_gets_no_more_codes_for_its_many_networks(
    harness: Harness, networks: str, issued: int
) -> None:
    body = urlencode({"client_id": screen_client(harness).client_id}).encode()

    def ask(peer: str) -> int:
        request = Request("POST", ASK, {"content-type": FORM}, body, peer=peer)
        return harness.server.handle(request).status

    found = Counter(ask(networks.format(1 + each % 250)) for each in range(issued + 10))
    assert found == {200: issued, 429: 10}
    assert harness.store.count("device_codes") == issued
    assert ask("2001:db8:1::1") == 200, "another site"


@pytest.mark.both_engines
def test_DEV_01_the_limit_of_all_addresses_is_one_for_each_client_of_the_operator(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_authorization, "IN_ALL", RateLimit(attempts=3, interval=60))
    harness = make(registration=Registration())
    flooded, other = screen_client(harness), screen_client(harness, "Other")
    strangers = [self_registered(harness) for _ in range(2)]

    def ask(client_id: str, number: int) -> int:
        body = urlencode({"client_id": client_id}).encode()
        peer = f"198.51.100.{number}"
        request = Request("POST", ASK, {"content-type": FORM}, body, peer=peer)
        return harness.server.handle(request).status

    assert [ask(flooded.client_id, each) for each in range(4)] == [200] * 3 + [429]
    assert [ask(strangers[each % 2], each) for each in range(4)] == [200] * 3 + [429]
    assert [ask(other.client_id, each) for each in range(4)] == [200] * 3 + [429]
    assert harness.store.count("device_codes") == 9


def self_registered(harness: Harness) -> str:
    fields = {
        "redirect_uris": [],
        "grant_types": [names.DEVICE_CODE],
        "response_types": [],
        "token_endpoint_auth_method": "none",
    }
    content = json.dumps(fields).encode()
    reply = harness.send("POST", "/oauth/register", content, content_type="application/json")
    client_id: str = reply.json["client_id"]
    return client_id


def test_DEV_01_metadata_announce_it(harness: Harness) -> None:
    content = harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert content["device_authorization_endpoint"] == ISSUER + ASK
    assert names.DEVICE_CODE in content["grant_types_supported"]


def test_DEV_01_the_lifetime_is_an_hour_at_most() -> None:
    with pytest.raises(ConfigurationError, match=r"Lifetimes\(device_code=\): 3600 seconds"):
        Lifetimes(device_code=3601)


# The page


def test_DEV_01_a_link_only_fills_the_code_in(harness: Harness) -> None:
    screen, person = Screen(harness), Person(harness)
    page = person.open(f"{PAGE}?user_code={screen.user_code}")
    assert f'value="{screen.user_code}"' in text(page)
    assert "asks for access" not in text(page)
    assert screen.poll().error == PENDING
    consent = person.send(page, user_code=screen.user_code)
    assert f"<strong>{screen.user_code}</strong>" in text(consent)
    assert "somebody else has sent you" in text(consent)
    harness.clock.now += 5
    assert screen.poll().error == PENDING


@pytest.mark.parametrize(
    "typed",
    [
        lambda code: code.lower(),
        lambda code: code.replace("-", ""),
        lambda code: f" {code.lower().replace('-', ' ')} ",
        lambda code: "-".join(code.replace("-", "")),
        lambda code: code.replace("-", "–"),  # noqa: RUF001 - what phones make of a dash
    ],
)
def test_DEV_01_case_and_separators_do_not_matter(harness: Harness, typed: Any) -> None:
    screen = Screen(harness)
    page = Person(harness).enter(typed(screen.user_code))
    assert f"<strong>{screen.user_code}</strong>" in text(page)


@pytest.mark.parametrize("typed", ["BBBB-BBBB", "AAAA-AAAA", "B", "B" * 9, "ß" * 8, "<b>"])
def test_DEV_01_a_wrong_code_is_told_and_may_be_corrected(harness: Harness, typed: str) -> None:
    screen, person = Screen(harness), Person(harness)
    page = person.enter(typed)
    assert (page.status, "Compare it with what your" in text(page)) == (400, True)
    assert "<b>" not in text(page)
    assert person.send(page, user_code=screen.user_code).status == 200


def test_DEV_01_an_empty_code_and_a_form_of_another_page_are_refused(harness: Harness) -> None:
    screen, person = Screen(harness), Person(harness)
    assert "Enter the code" in text(person.enter(" "))
    stale = person.send(person.open(), user_code=screen.user_code, csrf="x")
    assert (stale.status, "open for too long" in text(stale)) == (400, True)
    reported = [each for each in harness.events if each.code == "request_refused"]
    assert [each.details["reason"] for each in reported] == ["missing_user_code", "unusable_form"]
    consent = person.enter(screen.user_code)
    for wrong in ({"csrf": "x"}, {"request": "x"}, {"decision": "perhaps"}):
        refused = person.send(consent, **{"decision": "allow", **wrong})
        assert (refused.status, "open for too long" in text(refused)) == (400, True)
        assert harness.events[-1].details["reason"] == "unusable_form"
    assert harness.send("DELETE", PAGE).status == 405
    assert harness.send("POST", PAGE, b"{}", content_type="application/json").status == 400
    assert person.send(consent, decision="allow").status == 200


def test_DEV_01_a_decision_whose_form_is_not_valid_leads_back_to_the_field(
    harness: Harness,
) -> None:
    screen, person = Screen(harness), Person(harness)
    consent = person.enter(screen.user_code)
    person.cookie = ""
    stale = person.send(consent, decision="allow")
    assert (stale.status, "open for too long" in text(stale)) == (400, True)
    assert "the app that you came from" not in text(stale)
    assert filled_in(stale) == screen.user_code
    consent = person.send(stale, user_code=screen.user_code)
    assert consent.status == 200
    harness.clock.now += 3601
    late = person.send(consent, decision="allow")
    assert (late.status, filled_in(late)) == (400, "")
    assert screen.poll().error == (400, "expired_token")


def filled_in(page: Reply) -> str:
    found = re.search(r'name="user_code" type="text" value="([^"]*)"', text(page))
    assert found
    return found[1]


def test_DEV_01_the_page_is_as_the_consent_for_an_app(make: Make) -> None:
    """The powerful first, a long name in smaller letters, an icon for who is called 4711."""
    scopes = {"read": "Read", "write": "Write", "delete": Scope("Delete", powerful=True)}
    harness = make(scopes=scopes)
    client = screen_client(harness, "x" * 100, scopes=[*scopes])
    screen = Screen(harness, client, scope="read write delete")
    person = Person(harness)
    harness.user = User("4711", "4711")
    for page in (person.open(), person.enter(screen.user_code)):
        assert '<span class="avatar" aria-hidden="true"><svg' in text(page)
    shown = text(page)
    assert [shown.index(each) for each in ("Delete", "Read", "Write")] == sorted(
        shown.index(each) for each in ("Delete", "Read", "Write")
    )
    assert shown.index("<form") < shown.index('<h1 class="long">'), "the bar reaches the heading"
    assert text(person.send(page, decision="allow")).count("go back to your device") == 1
    assert screen.poll().json["scope"] == "read write delete"


def test_DEV_01_another_user_cannot_send_somebodys_form(harness: Harness) -> None:
    screen, person = Screen(harness), Person(harness)
    consent = person.enter(screen.user_code)
    harness.user = User("eve", "Eve")
    assert person.send(consent, decision="allow").status == 400
    assert screen.poll().error == PENDING


def test_DEV_01_the_consents_ticket_is_of_no_use_elsewhere(harness: Harness) -> None:
    screen, person = Screen(harness), Person(harness)
    consent = person.enter(screen.user_code)
    form = hidden_fields(consent.response.body.decode())
    sent = harness.post("/oauth/consent", {**form, "decision": "allow"}, cookie=person.cookie)
    assert sent.status == 400
    own = person.send(person.open(), decision="allow")  # the ticket of the first page
    assert own.status == 400


def test_DEV_01_an_apps_own_login_returns_to_the_page(harness: Harness) -> None:
    screen = Screen(harness)
    harness.user = None
    sent = Person(harness).open(f"{PAGE}?user_code={screen.user_code}")
    assert sent.status == 303
    assert sent.location.partition("?")[0] == "https://app.example.com/login"
    assert sent.sent == {"next": f"{ISSUER}{PAGE}?user_code={screen.user_code}"}
    plain = Person(harness).open()
    assert plain.sent == {"next": f"{ISSUER}{PAGE}"}
    typed = harness.post(PAGE, {"user_code": screen.user_code.lower()})
    assert typed.sent == {"next": f"{ISSUER}{PAGE}?user_code={screen.user_code}"}
    for query in ("user_code=%22%3E&x=1", "user_code=%ff", "%zz", "user_code=BB&user_code=CC"):
        odd = Person(harness).open(f"{PAGE}?{query}")
        assert odd.sent == {"next": f"{ISSUER}{PAGE}"}, query


def test_DEV_01_a_client_that_registered_itself_says_so(harness: Harness) -> None:
    unknown = harness.server._engine.clients.register(
        "Stranger",
        expires_at=harness.clock() + 60,
        auth_method="none",
        grant_types=["device_code", "refresh_token"],
        scopes=["read"],
    )
    screen = Screen(harness, unknown)
    assert "Nobody has checked its name" in text(Person(harness).enter(screen.user_code))
    Person(harness).decide(screen.user_code)
    harness.clock.now += 61
    harness.server.prune()  # it has been used, so it is kept
    harness.clock.now += 60
    assert screen.poll().status == 200


# Guessing


def test_DEV_01_guesses_of_one_user_are_limited_and_right_codes_cost_nothing(
    harness: Harness,
) -> None:
    client = screen_client(harness)
    person = Person(harness)
    for _ in range(15):
        assert person.enter(Screen(harness, client).user_code).status == 200
    statuses = [person.enter("BBBB-BBBB").status for _ in range(12)]
    assert statuses == [400] * 10 + [429] * 2
    screen = Screen(harness, client)
    throttled = person.enter(screen.user_code)
    assert throttled.status == 429  # whether it is right is not told
    assert throttled.header("retry-after") == "60"
    assert "Try again in 1 minute" in text(throttled)
    assert len(harness.named("user_code_throttled")) == 3
    harness.clock.now += 60
    assert person.enter(screen.user_code).status == 200


@pytest.mark.both_engines
def test_DEV_01_guesses_of_many_users_hit_nothing(make: Make) -> None:
    harness = make()
    television = harness.add("Television", grant_types=["device_code"], redirect_uris=[])
    for _ in range(50):
        Screen(harness, television)
    number = size(10_000, 500)
    hits, throttled = guess(harness, number)
    print(f"{number} guesses: {hits} hits, {throttled} throttled")
    assert hits == 0
    assert throttled >= number - 5 * 50  # no address: five times the limit
    assert harness.named("consent_given") == []


def guess(harness: Harness, number: int) -> tuple[int, int]:
    """Send guesses of user codes as forms; return how many hit, and how many were throttled."""
    hits = throttled = 0
    for n in range(number):
        if n % 40 == 0:  # another user, with a browser of their own
            harness.user = User(f"guesser {n}", "Somebody")
            person = Person(harness)
            page = person.open()
        code = shown("".join(secrets.choice(ALPHABET) for _ in range(8)))
        page = person.send(page, user_code=code)
        hits += page.status == 200
        throttled += page.status == 429
    return hits, throttled
