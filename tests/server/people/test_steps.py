"""The steps of a login: which is next, for every login and every demand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bearerguard.runtime.messages import Request
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.http.parameters import parse
from bearerguard.server.login.prompt import Prompt
from bearerguard.server.login.session import SignedIn
from bearerguard.server.login.steps import Demands, PendingRequest, Step, next_step
from tests.server.people.harness import ISSUER, PeopleHarness

NOW = 1_700_000_000
BROWSER = "b" * 43
QUERY = "client_id=reader"

RECENT = SignedIn("user-1", "Ada", NOW - 10, "strong")
OLD = replace(RECENT, auth_time=NOW - 1000)
LOGINS: dict[str, SignedIn | None] = {
    "nobody": None,
    "recent": RECENT,
    "old": OLD,
    "weak": replace(RECENT, acr="weak"),
    "old and weak": replace(OLD, acr="weak"),
    "of unknown age": replace(RECENT, auth_time=None),
    "of unknown context": replace(RECENT, acr=None),
}
IDENTIFY, PROVE, MORE = Step.IDENTIFY, Step.PROVE, Step.PROVE_MORE
GO = None  # the login is done: consent, or nothing more
# What the parameters of a request demand, and the step for each of `LOGINS`, in their order.
TABLE: list[tuple[str, list[Step | None]]] = [
    ("", [IDENTIFY, GO, GO, GO, GO, GO, GO]),
    ("prompt=consent", [IDENTIFY, GO, GO, GO, GO, GO, GO]),
    ("max_age=60", [IDENTIFY, GO, PROVE, GO, PROVE, PROVE, GO]),
    ("acr_values=strong", [IDENTIFY, GO, GO, MORE, MORE, GO, MORE]),
    ("max_age=60&acr_values=strong", [IDENTIFY, GO, PROVE, MORE, MORE, PROVE, MORE]),
    ("prompt=login", [IDENTIFY, *[PROVE] * 6]),
    ("max_age=0", [IDENTIFY, *[PROVE] * 6]),
    ("prompt=select_account", [IDENTIFY, *[PROVE] * 6]),
    ("prompt=login&acr_values=strong", [IDENTIFY, PROVE, PROVE, MORE, MORE, PROVE, MORE]),
]
# Likewise after the browser was sent to the login page, 20 seconds ago.
AFTER: list[tuple[str, list[Step | None]]] = [
    ("max_age=60", [IDENTIFY, GO, PROVE, GO, PROVE, PROVE, GO]),
    ("acr_values=strong", [IDENTIFY, GO, GO, MORE, MORE, GO, MORE]),
    ("prompt=login", [IDENTIFY, GO, PROVE, GO, PROVE, PROVE, GO]),
    ("prompt=select_account", [IDENTIFY, GO, GO, GO, GO, GO, GO]),
]
CASES = [
    pytest.param(demand, was_sent, login, step, id=f"{demand or 'nothing'}-{was_sent}-{login}")
    for was_sent, table in ((False, TABLE), (True, AFTER))
    for demand, steps in table
    for login, step in zip(LOGINS, steps, strict=True)
]


def prompt_of(harness: PeopleHarness, demand: str, *, was_sent: bool) -> Prompt:
    prompts, query = harness.people.prompts, f"{QUERY}&{demand}".rstrip("&")
    if was_sent:
        harness.clock.now = NOW - 20
        query = prompts.marked(query, BROWSER, None)
    harness.clock.now = NOW
    name = Cookies(ISSUER).full_name("bearerguard_form")
    request = Request(headers={"Cookie": f"{name}={BROWSER}"})
    return prompts.read(request, parse(query.encode()), query)


@pytest.mark.parametrize(("demand", "was_sent", "login", "step"), CASES)
def test_AZ_08_each_login_has_one_next_step_for_each_demand(
    harness: PeopleHarness, demand: str, *, was_sent: bool, login: str, step: Step | None
) -> None:
    prompt, signed_in = prompt_of(harness, demand, was_sent=was_sent), LOGINS[login]
    asked: list[SignedIn] = []

    def needs_consent(user: SignedIn) -> bool:
        asked.append(user)
        return len(asked) == 1

    first, second = (
        next_step(harness.people.prompts, prompt, signed_in, needs_consent) for _ in range(2)
    )
    if step is GO:
        assert (first, second, asked) == (Step.CONSENT, Step.DONE, [signed_in] * 2)
    else:  # nobody is asked for consent before the login is done
        assert (first, second, asked) == (step, step, [])


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize(
    "demands", [Demands(), Demands("login select_account", 60, ("strong", "weak"))]
)
def test_a_pending_request_is_read_as_it_was_stored(*, again: bool, demands: Demands) -> None:
    pending = PendingRequest(
        "", "/oauth/device", QUERY, "Reader", "https://app.example/cb", again, demands
    )
    assert PendingRequest.read(pending.stored) == pending
