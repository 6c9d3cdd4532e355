"""A third login method and a second factor join the login, passed in and without another change.

The method is a key in the browser's hands, as passkeys are; the factor is TOTP (RFC 6238). What is
half done is no session, whoever has it.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bearerguard.runtime.messages import Request, Response
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server import engine
from bearerguard.server.http.parameters import from_form
from bearerguard.server.login.login_endpoint import LoginParts
from bearerguard.server.login.people import PASSWORD_ACR, People
from bearerguard.server.login.session import Method, ProofLapsed, SignedIn
from bearerguard.server.login.steps import (
    Demands,
    FurtherProof,
    LoginMethod,
    Offer,
    PendingRequest,
    Proof,
    UnfinishedLogin,
)
from bearerguard.server.login.ticket import TicketError
from bearerguard.server.store.connection import Connection
from tests.conformance.harness import Clock
from tests.server.harness import Make, claims
from tests.server.people.elsewhere import IDP, World, sent
from tests.server.people.harness import PASSWORD, PeopleHarness
from tests.server.people.visitor import Page, Visitor
from tests.server.stores import MakeStore

LOGIN, CODE, KEY = "/oauth/login", "/oauth/login/code", "/oauth/login/key"
TWO_FACTORS = "https://refeds.org/profile/mfa"
BY_KEY = "phr"
SECRET = b"12345678901234567890"
QUERY = "client_id=reader&state=x"


def totp(secret: bytes, at: float, *, digits: int = 6) -> str:
    """Return the code of a time (RFC 6238 §4, RFC 4226 §5.3)."""
    mac = hmac.digest(secret, int(at // 30).to_bytes(8, "big"), "sha1")
    offset = mac[-1] & 15
    number = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**digits:0{digits}}"


def form(action: str, csrf: str, text: str, /, **fields: str) -> bytes:
    hidden = {"csrf": csrf, **fields}
    inputs = "".join(f'<input name="{name}" value="{each}">' for name, each in hidden.items())
    return f'<p>{text}</p><form action="{action}">{inputs}<button></button></form>'.encode()


class Totp:
    """The second factor of users who have a secret, and of requests that demand it."""

    name = "totp"
    paths = frozenset({CODE})
    acr_values = (TWO_FACTORS,)

    def __init__(
        self, parts: LoginParts, *, secrets: dict[str, bytes], clock: Callable[[], float]
    ) -> None:
        self._parts = parts
        self._secrets = secrets
        self._clock = clock
        self._used: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def is_owed(self, proof: Proof, demands: Demands) -> bool:
        return proof.user_id in self._secrets or TWO_FACTORS in demands.acr_values

    def ask(self, request: Request, login: UnfinishedLogin) -> Response:
        return self._page(request, login, 200, "Enter the code")

    def handle(self, request: Request) -> Response:
        fields = from_form(request).values
        login = self._parts.logins.unfinished(request, fields.get("login", ""))
        if not self._parts.csrf.holds(request, fields):
            return self._page(request, login, 400, "Try again")
        user_id, code = login.proof.user_id, fields.get("code", "")
        if self._parts.throttle.charge_one("totp", user_id, RateLimit(5, 600)):
            return self._page(request, login, 429, "Wait")
        with self._lock:  # a code counts once (RFC 6238 §5.2)
            right = totp(self._secrets[user_id], self._clock())
            if not hmac.compare_digest(code, right) or (user_id, code) in self._used:
                return self._page(request, login, 403, "Wrong code")
            self._used.add((user_id, code))
        return self._parts.logins.proved_more(
            request, login, self, amr=("otp", "mfa"), acr=TWO_FACTORS
        )

    def _page(self, request: Request, login: UnfinishedLogin, status: int, text: str) -> Response:
        proof = self._parts.csrf.proof(request)
        body = form(self._parts.base + CODE, proof.value, text, login=login.ticket, code="")
        return Response(status, proof.headers, body)


class KeyLogin:
    """A third method: who has a user's key answers a challenge with it."""

    name = "key"
    paths = frozenset({KEY})
    acr_values = (BY_KEY,)

    def __init__(self, parts: LoginParts, *, keys: dict[str, bytes]) -> None:
        self._parts = parts
        self._keys = keys
        self.offers = (Offer(parts.base + KEY, "a key"),)

    def handle(self, request: Request) -> Response:
        fields = from_form(request).values
        parts, csrf = self._parts, self._parts.csrf
        pending = parts.logins.pending(fields.get("request", ""))
        browser = csrf.known_browser(request)
        if pending is None or browser is None or not csrf.holds(request, fields):
            raise ProofLapsed("unusable_form")
        if "answer" not in fields:
            proof = csrf.proof(request)
            challenge = parts.tickets.issue("key", {}, lifetime=60, holder=browser)
            page = form(parts.base + KEY, proof.value, "Key", request=pending.ticket, c=challenge)
            return Response(200, proof.headers, page)
        user_id, challenge = fields["user"], fields["c"]
        try:
            parts.tickets.open("key", challenge, holder=browser)
        except TicketError:
            raise ProofLapsed("unusable_challenge") from None
        if fields["answer"] != answered(self._keys.get(user_id, b""), challenge):
            return Response(403, (), b"Wrong")
        proved = Proof(user_id, self.name, Method(BY_KEY, ("hwk",)))
        return parts.logins.proved(request, pending, proved)

    def check(self, connection: Connection, proof: Proof) -> None:
        del connection
        if proof.user_id not in self._keys:
            raise ProofLapsed("key_removed")


def by_password(visitor: Visitor, login: str, at: str = LOGIN) -> Page:
    fields = {**visitor.get(at).fields, "username": login, "password": PASSWORD}
    return visitor.post(LOGIN, fields)


def answered(key: bytes, challenge: str) -> str:
    return hmac.new(key, challenge.encode(), hashlib.sha256).hexdigest()


class Joined:
    """People, of whom Ada has a password, a second factor and a key."""

    def __init__(self, folder: Path, make_store: MakeStore) -> None:
        self.secrets: dict[str, bytes] = {}
        self.keys: dict[str, bytes] = {}
        methods: list[Callable[[LoginParts], LoginMethod]] = [partial(KeyLogin, keys=self.keys)]
        clock = Clock()
        further: list[Callable[[LoginParts], FurtherProof]] = [
            partial(Totp, secrets=self.secrets, clock=clock)
        ]
        self.harness = PeopleHarness(
            folder, make_store(folder), clock=clock, methods=methods, further=further
        )
        accounts = self.harness.people.accounts
        self.ada = accounts.add("ada", PASSWORD, name="Ada Lovelace").user_id
        self.bob = accounts.add("bob", PASSWORD).user_id
        self.secrets[self.ada] = SECRET
        self.keys[self.ada] = self.keys[self.bob] = b"a key"
        self.visitor = self.harness.visitor()
        self.harness.events.clear()

    def location(self, demands: Demands | None = None) -> str:
        pending = PendingRequest(
            "", query=QUERY, client_name="Reader", demands=demands or Demands()
        )
        return self.harness.people._logins.location(pending)

    def half(self, at: str = LOGIN) -> Page:
        """Sign Ada in as far as the password does; return the page for the code."""
        return by_password(self.visitor, "ada", at)

    @property
    def code(self) -> str:
        return totp(SECRET, self.harness.clock())

    def signed_in(self, visitor: Visitor | None = None) -> SignedIn | None:
        cookies = "; ".join(f"{a}={b}" for a, b in (visitor or self.visitor).cookies.items())
        return self.harness.people.signed_in(Request(headers={"Cookie": cookies}))

    def is_nobody(self) -> bool:
        """Whether nobody is signed in, and nothing was said to be."""
        is_silent = "login_succeeded" not in self.harness.reported
        return is_silent and self.signed_in() is None and self.harness.rows("sessions") == []


@pytest.fixture
def joined(tmp_path: Path, make_store: MakeStore) -> Generator[Joined]:
    joined = Joined(tmp_path, make_store)
    yield joined
    joined.harness.database.close()


@pytest.mark.parametrize(
    ("at", "code"), [(59, "94287082"), (1111111109, "07081804"), (20000000000, "65353130")]
)
def test_the_codes_are_those_of_rfc_6238(at: int, code: str) -> None:
    assert totp(SECRET, at, digits=8) == code


# What joins


def test_a_third_method_is_offered_and_signs_in(joined: Joined) -> None:
    visitor, at = joined.visitor, joined.location()
    page = visitor.get(at)
    assert "Continue with a key" in page.text
    assert 'name="password"' in page.html
    asked = visitor.post(KEY, {name: page.fields[name] for name in ("csrf", "request")})
    done = visitor.submit(asked, user=joined.bob, answer=answered(b"a key", asked.fields["c"]))
    assert (done.status, done.header("Location")) == (303, f"/oauth/authorize?{QUERY}")
    found = joined.signed_in()
    assert found is not None
    assert (found.user_id, found.acr, found.amr) == (joined.bob, BY_KEY, ("hwk",))
    assert joined.harness.reported == ["login_succeeded"]


def test_the_contexts_of_what_joins_can_be_asked_for(joined: Joined) -> None:
    assert joined.harness.people.acr_values == (TWO_FACTORS, PASSWORD_ACR, BY_KEY)


@pytest.mark.both_engines
def test_a_second_factor_comes_between_the_password_and_the_session(joined: Joined) -> None:
    page = joined.half(joined.location())
    assert (page.status, page.action) == (200, CODE)
    assert joined.is_nobody()
    wrong = joined.visitor.submit(page, code="000000")
    assert wrong.status == 403
    assert joined.is_nobody()
    done = joined.visitor.submit(wrong, code=joined.code)
    assert (done.status, done.header("Location")) == (303, f"/oauth/authorize?{QUERY}")
    found = joined.signed_in()
    assert found is not None
    assert (found.user_id, found.acr) == (joined.ada, TWO_FACTORS)
    assert found.amr == ("pwd", "otp", "mfa")
    assert joined.harness.reported == ["login_succeeded"]


def test_a_browser_is_known_once_its_login_is_finished(joined: Joined) -> None:
    page = joined.half()
    assert not any("bearerguard_device" in each for each in joined.visitor.cookies)
    joined.visitor.submit(page, code=joined.code)
    assert any("bearerguard_device" in each for each in joined.visitor.cookies)


def test_who_owes_nothing_more_is_signed_in_at_once(joined: Joined) -> None:
    assert by_password(joined.visitor, "bob").status == 303
    found = joined.signed_in()
    assert found is not None
    assert (found.acr, found.amr) == (PASSWORD_ACR, ("pwd",))


def test_a_request_can_demand_the_second_factor(joined: Joined) -> None:
    demands = Demands(acr_values=(TWO_FACTORS,))
    page = by_password(joined.visitor, "bob", joined.location(demands))
    assert (page.status, page.action) == (200, CODE)


def test_a_third_method_owes_the_second_factor_too(joined: Joined) -> None:
    page = joined.visitor.get(LOGIN)
    asked = joined.visitor.post(KEY, {"csrf": page.fields["csrf"]})
    answer = answered(b"a key", asked.fields["c"])
    half = joined.visitor.submit(asked, user=joined.ada, answer=answer)
    assert half.action == CODE
    assert joined.is_nobody()
    del joined.keys[joined.ada]
    late = joined.visitor.submit(half, code=joined.code)
    assert (late.status, joined.harness.events[-1].details["reason"]) == (400, "key_removed")
    assert joined.is_nobody()


# What is half done


def refused(joined: Joined, page: Page, reason: str) -> None:
    """Check that a half-finished login came to nothing, with a page that leads back."""
    assert page.status == 400, page.text
    assert "Start again" in page.text
    assert joined.harness.events[-1].details["reason"] == reason
    assert joined.is_nobody()


def test_its_ticket_is_no_session_and_no_other_ticket(joined: Joined) -> None:
    page = joined.half()
    ticket, visitor = page.fields["login"], joined.visitor
    session = next(iter(visitor.cookies)).replace("bearerguard_form", "bearerguard_session")
    visitor.cookies[session] = ticket
    assert joined.is_nobody()
    assert visitor.get(f"{LOGIN}?request={ticket}").status == 400
    del visitor.cookies[session]
    pending = joined.location().partition("=")[2]
    for other in (pending, page.fields["csrf"], "", "x", ticket[:-2]):
        refused(joined, visitor.submit(page, login=other, code=joined.code), "unusable_login")


def test_another_browser_cannot_finish_it(joined: Joined) -> None:
    page = joined.half()
    for other in (joined.harness.visitor(), joined.harness.visitor()):
        theirs = other.get(LOGIN).fields["csrf"]
        late = other.submit(page, csrf=theirs, code=joined.code)
        refused(joined, late, "unusable_login")
        assert joined.signed_in(other) is None
    joined.visitor.cookies.clear()
    refused(joined, joined.visitor.submit(page, code=joined.code), "unusable_login")


def test_a_browser_without_a_name_finishes_nothing(joined: Joined) -> None:
    logins, nameless = joined.harness.people._logins, Request()
    page = Page(logins.proved(nameless, PendingRequest(), Proof(joined.ada, "key", Method())))
    for request in (nameless, Request(headers={"Cookie": ""})):
        with pytest.raises(ProofLapsed, match="unusable_login"):
            logins.unfinished(request, page.fields["login"])


def test_it_cannot_be_finished_by_another_site(joined: Joined) -> None:
    page = joined.half()
    late = joined.visitor.submit(page, code=joined.code, csrf="")
    assert late.status == 400
    assert joined.is_nobody()


@pytest.mark.both_engines
def test_it_is_finished_once(joined: Joined) -> None:
    page = joined.half()
    assert joined.visitor.submit(page, code=joined.code).status == 303
    joined.harness.clock.now += 30
    again = joined.visitor.submit(page, code=joined.code)
    assert (again.status, joined.harness.events[-1].details["reason"]) == (400, "used_login")
    assert len(joined.harness.rows("sessions")) == 1
    assert joined.harness.reported.count("login_succeeded") == 1


def test_it_expires(joined: Joined) -> None:
    page = joined.half()
    joined.harness.clock.now += 899
    assert joined.visitor.submit(page, code="000000").status == 403
    joined.harness.clock.now += 1
    refused(joined, joined.visitor.submit(page, code=joined.code), "unusable_login")


@pytest.mark.both_engines
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda accounts: accounts.disable("ada"), "user_disabled"),
        (lambda accounts: accounts.delete("ada"), "user_disabled"),
        (lambda accounts: accounts.set_password("ada", "another good one"), "password_changed"),
        (lambda accounts: accounts.set_password("ada", PASSWORD), "password_changed"),
    ],
)
def test_it_ends_with_a_change_of_the_account(
    joined: Joined, change: Callable[[Any], object], reason: str
) -> None:
    page = joined.half()
    change(joined.harness.people.accounts)
    joined.harness.events.clear()
    refused(joined, joined.visitor.submit(page, code=joined.code), reason)


def test_a_right_password_gives_no_more_guesses_of_the_code(joined: Joined) -> None:
    statuses = [joined.visitor.submit(joined.half(), code="000000").status for _ in range(7)]
    assert statuses == [403] * 5 + [429] * 2
    assert joined.visitor.submit(joined.half(), code=joined.code).status == 429
    assert joined.is_nobody()


def test_a_code_that_was_seen_does_not_count_again(joined: Joined) -> None:
    page, code = joined.half(), joined.code
    assert joined.visitor.submit(page, code=code).status == 303
    thief = joined.harness.visitor()
    assert thief.submit(by_password(thief, "ada"), code=code).status == 403
    assert joined.signed_in(thief) is None


def test_the_ticket_has_no_hash_of_a_password_and_no_repr(joined: Joined) -> None:
    logins = joined.harness.people._logins
    page = joined.half()
    cookies = "; ".join(f"{a}={b}" for a, b in joined.visitor.cookies.items())
    request = Request(headers={"Cookie": cookies})
    login = logins.unfinished(request, page.fields["login"])
    assert UnfinishedLogin.read(login.stored, login.ticket) == login
    stored = joined.harness.people.accounts.password_mark("ada")
    assert stored is not None
    assert stored not in str(login.stored)
    for secret in (*login.proof.evidence, login.ticket):
        assert secret not in repr(login)


# With a login elsewhere, and with tokens


@pytest.fixture
def world(make: Make, monkeypatch: pytest.MonkeyPatch) -> World:
    """A server whose users all owe a code."""

    class Everybody(dict[str, bytes]):
        def __contains__(self, key: object) -> bool:
            return True

        def __missing__(self, key: str) -> bytes:
            return SECRET

    def people(*args: Any, clock: Callable[[], float], **options: Any) -> People:
        further = [partial(Totp, secrets=Everybody(), clock=clock)]
        return People(*args, clock=clock, further=further, **options)

    monkeypatch.setattr(engine, "People", people)
    return World(make)


def test_the_tokens_say_what_was_done(world: World) -> None:
    visitor, harness = world.visitor(), world.harness
    page = world.sign_in(visitor, at=harness.link())
    assert (page.status, page.action) == (200, CODE)
    assert harness.store.count("sessions") == 0
    done = visitor.submit(page, code=totp(SECRET, harness.clock()))
    token = harness.redeem(sent(visitor.follow(done))["code"]).json["access_token"]
    found = claims(token)
    assert (found["acr"], found["amr"]) == (TWO_FACTORS, ["otp", "mfa"])


@pytest.mark.parametrize("how", ["logout", "unlink"])
def test_a_login_elsewhere_that_ended_meanwhile_is_not_finished(world: World, how: str) -> None:
    visitor, harness = world.visitor(), world.harness
    page = world.sign_in(visitor)
    [account] = world.server.users.all()
    if how == "unlink":
        world.server.users.unlink(account.login, issuer=IDP)
    else:
        logout = {"logout_token": world.idp.logout_token()}
        assert visitor.post("/oauth/backchannel_logout/example", logout).status == 200
    late = visitor.submit(page, code=totp(SECRET, harness.clock()))
    reason = {"logout": "logged_out", "unlink": "identity_unlinked"}[how]
    assert (late.status, harness.events[-1].details["reason"]) == (400, reason)
    assert harness.store.count("sessions") == 0
