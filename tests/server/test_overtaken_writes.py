"""What a request writes for a session that ends between its reading and its writing: nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy

from bearerguard import Fetch, Response
from bearerguard.server import PersonalTokens, Registered
from tests.server.harness import Harness, Make
from tests.server.people.elsewhere import World, sent
from tests.server.people.visitor import Page, Visitor, path
from tests.server.statements import recorded
from tests.server.test_device_code import PAGE as DEVICE
from tests.server.test_device_code import Screen

pytestmark = pytest.mark.both_engines

LOGIN, TOKENS = "/oauth/login", "/oauth/account/tokens"
PASSWORD = "another horse battery"


@pytest.fixture
def world(make: Make) -> World:
    world = World(make, server={"personal_tokens": PersonalTokens()})
    world.idp.changed |= {"sid": "s1", "auth_time": int(world.harness.clock())}
    return world


@pytest.fixture
def visitor(world: World) -> Visitor:
    visitor = world.visitor()
    world.sign_in(visitor)
    return visitor


@contextmanager
def overtaken(
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[], object],
    *,
    writes: int = 0,
) -> Generator[None]:
    """Call `act` when a request has read, and is about to begin its write after `writes` others."""
    engine = harness.server._engine.database.engine
    begin: Callable[..., None] = engine.begin_writing
    before: list[Callable[[], object]] = [*[lambda: None] * writes, act]

    def begin_writing(connection: Any, *, concurrent: bool) -> None:
        if before:
            before.pop(0)()
        begin(connection, concurrent=concurrent)

    with monkeypatch.context() as patching:
        patching.setattr(engine, "begin_writing", begin_writing)
        yield
    assert not before, "the write was not begun"


def log_out(world: World, **named: Any) -> None:
    token = world.idp.logout_token(**named)
    post = "/oauth/backchannel_logout/example"
    assert world.harness.post(post, {"logout_token": token}).status == 200


def end_here(world: World, visitor: Visitor) -> None:
    tab = world.visitor()
    tab.cookies = dict(visitor.cookies)
    assert tab.submit(tab.get("/oauth/logout")).status == 303


def user(world: World) -> str:
    [account] = world.server.users.all()
    return account.login


ENDINGS: dict[str, Callable[[World, Visitor], object]] = {
    "logout token of the user": lambda world, _: log_out(world, sub="00u1"),
    "logout token of the session": lambda world, _: log_out(world, sub=None, sid="s1"),
    "logout here": end_here,
    "new password": lambda world, _: world.server.users.set_password(user(world), PASSWORD),
    "disabled": lambda world, _: world.server.users.disable(user(world)),
    "deleted": lambda world, _: world.server.delete_user(user(world)),
    "unlinked": lambda world, _: world.server.users.unlink(user(world), issuer=world.idp.url),
}
every_ending = pytest.mark.parametrize("ending", ENDINGS)


def asked(world: World, visitor: Visitor) -> Page:
    """Return the page that asks for consent."""
    page = visitor.get(world.harness.link(world.harness.phone))
    assert ("decision", "allow") in page.buttons
    return page


@every_ending
def test_an_allowed_request_gets_no_code_and_leads_to_the_login(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    page = asked(world, visitor)
    with overtaken(world.harness, monkeypatch, lambda: ENDINGS[ending](world, visitor)):
        back = visitor.submit(page, ("decision", "allow"))
    assert (back.status, path(back)) == (303, LOGIN)
    assert world.harness.store.count("codes") == 0
    assert world.harness.store.count("consents") == 0


@every_ending
def test_a_request_without_a_page_gets_no_code_either(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    with overtaken(world.harness, monkeypatch, lambda: ENDINGS[ending](world, visitor)):
        back = visitor.get(world.harness.link())
    assert (back.status, path(back)) == (303, LOGIN)
    assert world.harness.store.count("codes") == 0


ACCOUNT = "/oauth/account"
# What ends a client's access, beside the session.
ENDINGS_OF_ACCESS: dict[str, Callable[[World, Visitor, str], object]] = {
    "by the user": lambda _, visitor, client_id: visitor.submit(
        visitor.get(ACCOUNT), ("end", client_id)
    ),
    "all, by the user": lambda _, visitor, __: visitor.submit(
        visitor.get(ACCOUNT), ("end_all", "yes")
    ),
    "the user's": lambda world, _, client_id: world.server.revoke_user(
        login=user(world), client_id=client_id
    ),
    "all of the user": lambda world, _, __: world.server.revoke_user(login=user(world)),
    "the client's": lambda world, _, client_id: world.server.access.revoke_client(client_id),
}


@pytest.fixture
def careful(world: World, visitor: Visitor) -> Registered:
    """A client whose access the user has allowed for good."""
    client = world.harness.add("Careful", require_consent=True)
    page = visitor.get(world.harness.link(client))
    back = visitor.submit(page, ("decision", "allow"), remember="yes")
    assert world.harness.redeem(sent(back)["code"], client).status == 200
    assert "code" in sent(visitor.get(world.harness.link(client))), "without a question"
    world.harness.store.run("DELETE FROM codes")
    return client


@pytest.mark.parametrize("ending", ENDINGS_OF_ACCESS)
@pytest.mark.parametrize("prompt", [None, "none"])
def test_a_client_whose_access_has_ended_gets_no_code_by_the_consent_of_before(
    world: World,
    visitor: Visitor,
    careful: Registered,
    monkeypatch: pytest.MonkeyPatch,
    *,
    ending: str,
    prompt: str | None,
) -> None:
    def act() -> None:
        ENDINGS_OF_ACCESS[ending](world, visitor, careful.client_id)

    with overtaken(world.harness, monkeypatch, act):
        back = visitor.get(world.harness.link(careful, prompt=prompt))
    assert world.harness.store.count("codes") == 0
    if prompt is None:
        assert ("decision", "allow") in back.buttons
    else:
        assert sent(back)["error"] == "consent_required"


def test_a_code_waits_for_whoever_is_forgetting_the_consent(
    world: World, visitor: Visitor, careful: Registered
) -> None:
    """Another process has removed it, and has not committed."""
    store = world.harness.store
    with ThreadPoolExecutor(1) as pool:
        with store.connection() as connection:
            connection.execute(sqlalchemy.text("DELETE FROM consents"))
            waiting = pool.submit(lambda: visitor.get(world.harness.link(careful)))
            time.sleep(0.3)  # it waits by now
            assert not waiting.done()
        assert ("decision", "allow") in waiting.result().buttons
    assert store.count("codes") == 0


def test_the_request_goes_on_after_the_next_login(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with overtaken(world.harness, monkeypatch, lambda: log_out(world)):
        back = visitor.get(world.harness.link())
    world.harness.clock.now += 1
    again = visitor.follow(world.sign_in(visitor, at=back.header("Location") or ""))
    assert world.harness.redeem(sent(again)["code"]).status == 200


def test_a_request_that_may_not_ask_is_told(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with overtaken(world.harness, monkeypatch, lambda: log_out(world)):
        back = visitor.get(world.harness.link(prompt="none"))
    assert sent(back)["error"] == "login_required"
    assert world.harness.store.count("codes") == 0


@every_ending
def test_a_device_is_not_allowed_and_its_code_is_there_after_the_login(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    screen = Screen(world.harness)
    page = visitor.submit(visitor.get(f"{DEVICE}?user_code={screen.user_code}"))
    with overtaken(world.harness, monkeypatch, lambda: ENDINGS[ending](world, visitor)):
        back = visitor.submit(page, ("decision", "allow"))
    assert (back.status, path(back)) == (303, LOGIN)
    assert screen.poll().error == (400, "authorization_pending")
    if ending == "logout here":
        form = visitor.follow(world.sign_in(visitor, at=back.header("Location") or ""))
        assert form.fields["user_code"] == screen.user_code


@every_ending
def test_no_personal_token_is_made(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    page = visitor.get(TOKENS)
    form = {"csrf": page.fields["csrf"], "name": "CI", "days": "7", "scope read": "yes"}
    with overtaken(world.harness, monkeypatch, lambda: ENDINGS[ending](world, visitor)):
        refused = visitor.post(TOKENS, form)
    assert path(refused) == LOGIN
    assert world.harness.store.count("personal_tokens") == 0


def device(world: World, visitor: Visitor) -> Page:
    page = visitor.get(f"{DEVICE}?user_code={Screen(world.harness).user_code}")
    return visitor.submit(page)


@pytest.mark.parametrize("page", [asked, device])
def test_what_is_written_waits_for_whoever_is_ending_the_session(
    world: World, visitor: Visitor, page: Callable[[World, Visitor], Page]
) -> None:
    """Another process has removed the session, and has not committed."""
    shown, store = page(world, visitor), world.harness.store
    with ThreadPoolExecutor(1) as pool:
        with store.connection() as connection:
            connection.execute(sqlalchemy.text("DELETE FROM sessions"))
            waiting = pool.submit(lambda: visitor.submit(shown, ("decision", "allow")))
            time.sleep(0.3)  # it waits by now
            assert not waiting.done()
        assert path(waiting.result()) == LOGIN
    assert store.count("codes") == 0
    assert store.count("device_codes", "user_id IS NOT NULL") == 0


def at_once(world: World, _: Visitor) -> str:
    return world.harness.link()


@pytest.mark.parametrize("page", [at_once, asked, device])
def test_the_session_is_locked_before_any_other_row(
    world: World, visitor: Visitor, page: Callable[[World, Visitor], Page | str]
) -> None:
    """Else requests that lock them in different orders could wait for each other."""
    shown = page(world, visitor)
    with recorded() as written:
        if isinstance(shown, Page):
            visitor.submit(shown, ("decision", "allow"))
        else:
            visitor.get(shown)
    statements = [sql.replace("\n", "") for sql, _ in written]
    held = next(
        place
        for place, sql in enumerate(statements)
        if sql.startswith("SELECT sessions.digest FROM sessions WHERE")
    )
    assert not [sql for sql in statements[:held] if not sql.startswith("SELECT")]
    assert [sql for sql in statements[held:] if not sql.startswith("SELECT")]


# Logins elsewhere


def while_redeemed(
    world: World, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], *, first: bool = False
) -> None:
    """Call `act` after the ID token is issued and before it is here; or before it is issued."""
    fetch = world.idp.fetch

    def fetching(request: Fetch) -> Response:
        is_code = urlsplit(request.url).path == "/token"
        if is_code and first:
            act()
        response = fetch(request)
        if is_code and not first:
            act()
        return response

    monkeypatch.setattr(world.idp, "fetch", fetching)


def is_let_in(world: World) -> bool:
    visitor = world.visitor()
    page = world.sign_in(visitor)
    stored = world.harness.store.count("sessions")
    assert (page.status, stored) in {(303, 1), (403, 0)}
    return page.status == 303


NAMED: dict[str, tuple[str | None, dict[str, Any], bool]] = {
    "the user": ("s1", {"sub": "00u1"}, False),
    "the user, whose session is unknown": (None, {"sub": "00u1"}, False),
    "the session": ("s1", {"sub": None, "sid": "s1"}, False),
    "both": ("s1", {"sub": "00u1", "sid": "s1"}, False),
    "a session, perhaps this one": (None, {"sub": "00u1", "sid": "s1"}, False),
    "another session": ("s1", {"sub": "00u1", "sid": "s2"}, True),
    "another session alone": ("s1", {"sub": None, "sid": "s2"}, True),
    "another user": ("s1", {"sub": "00u2"}, True),
}


@pytest.mark.parametrize("case", NAMED)
@pytest.mark.parametrize("is_known", [True, False])
def test_a_login_elsewhere_that_a_logout_overtakes_begins_no_session(
    world: World, monkeypatch: pytest.MonkeyPatch, case: str, *, is_known: bool
) -> None:
    session, named, stays = NAMED[case]
    if is_known:
        world.sign_in(world.visitor())
        world.harness.store.run("DELETE FROM sessions")
    world.idp.changed["sid"] = session
    while_redeemed(world, monkeypatch, lambda: log_out(world, **named))
    assert is_let_in(world) is stays
    assert world.reasons() == ([] if stays else ["logged_out"])


@pytest.mark.parametrize(
    ("named", "is_new"),
    [
        ({"sub": "00u1"}, True),
        ({"sub": "00u1", "sid": "s2"}, True),
        ({"sub": "00u1", "sid": "s1"}, False),
        ({"sub": None, "sid": "s1"}, False),
    ],
)
def test_a_login_elsewhere_after_the_logout_is_a_new_one_unless_its_session_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch, named: dict[str, Any], *, is_new: bool
) -> None:
    """The ID token was issued after the logout token, though the login was begun before it."""

    def act() -> None:
        log_out(world, **named)
        world.harness.clock.now += 1

    while_redeemed(world, monkeypatch, act, first=True)
    assert is_let_in(world) is is_new
    assert world.reasons() == ([] if is_new else ["logged_out"])


def test_the_later_of_two_logouts_counts_in_whatever_order_they_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(world.harness.clock())

    def act() -> None:
        log_out(world, iat=now)
        log_out(world, iat=now - 60)

    while_redeemed(world, monkeypatch, act)
    assert not is_let_in(world)


def test_a_login_elsewhere_that_an_unlinking_overtakes_begins_no_session(
    world: World, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        world.server.users.unlink(user(world), issuer=world.idp.url)

    world.idp.changed["sid"] = "s2"
    other = world.visitor()
    # Before: the use of the state, and the time of the login.
    with overtaken(world.harness, monkeypatch, act, writes=2):
        page = world.sign_in(other)
    assert page.status == 403
    assert world.reasons("upstream_login_refused") == ["identity_unlinked"]
    assert world.harness.store.count("sessions") == 0
