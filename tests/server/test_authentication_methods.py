"""Client authentication methods that are added from outside (RFC 6749 §2.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bearerguard import ConfigurationError, Request
from bearerguard.server import (
    ClientAuthenticationMethod,
    Parameters,
    Presented,
    Registered,
    Rejected,
    StoreUnavailable,
)
from tests.server.harness import Harness, Reply

GRANT = {"grant_type": "client_credentials"}


class Badge:
    """A test double: the header field `Badge` names the client and proves it."""

    name = "badge"

    def __init__(self, outcome: Callable[[str], Any] = lambda proof: proof == "right") -> None:
        self.outcome = outcome

    def presented(self, request: Request, parameters: Parameters) -> Presented | None:
        fields = request.values(b"badge")
        client_id = parameters.get("client_id")
        if not fields or client_id is None:
            return None
        return Presented((client_id,), (fields[0].decode(),))

    def verify(self, client: object, presented: Presented) -> Any:
        return self.outcome(presented.proofs[0])


@pytest.fixture
def badge() -> Badge:
    return Badge()


@pytest.fixture
def robot(harness: Harness, badge: Badge) -> Registered:
    harness.server.authentication_methods.register(badge)
    return harness.add("Robot", auth_method="badge", redirect_uris=[])


def ask(harness: Harness, client: Registered, badge: str | None, **fields: Any) -> Reply:
    headers = {} if badge is None else {"badge": badge}
    form = {"client_id": client.client_id, **GRANT, **fields}
    return harness.post("/oauth/token", form, **headers)


def test_a_client_authenticates_by_a_registered_method(harness: Harness, robot: Registered) -> None:
    assert robot.client_secret is None
    assert ask(harness, robot, "right").status == 200
    refused = ask(harness, robot, "wrong")
    assert refused.error == (401, "invalid_client")
    token = ask(harness, robot, "right").json["access_token"]
    form = {"client_id": robot.client_id, "token": token}
    assert harness.post("/oauth/introspect", form, badge="right").json["active"]
    assert harness.post("/oauth/revoke", form, badge="right").status == 200


def test_a_method_is_for_the_clients_that_are_registered_for_it(
    harness: Harness, robot: Registered
) -> None:
    assert ask(harness, harness.app, "right").error == (401, "invalid_client")
    assert ask(harness, harness.phone, "right").error == (401, "invalid_client")
    assert ask(harness, robot, None).error == (401, "invalid_client")
    assert ask(harness, robot, None, client_secret="x" * 40).error == (401, "invalid_client")
    events = harness.named("client_authentication_failed")
    assert {event.details["reason"] for event in events} == {"wrong_authentication_method"}


def test_two_methods_at_once_are_refused(harness: Harness, robot: Registered) -> None:
    refused = ask(harness, robot, "right", client_secret="x" * 40)
    assert refused.error == (400, "invalid_request")


@pytest.mark.parametrize("outcome", [None, False, 1, "yes", object()])
def test_only_true_authenticates(
    harness: Harness, badge: Badge, robot: Registered, outcome: object
) -> None:
    badge.outcome = lambda _: outcome
    assert ask(harness, robot, "right").error == (401, "invalid_client")


def test_the_reason_of_a_rejection_is_in_the_event_and_not_in_the_response(
    harness: Harness, badge: Badge, robot: Registered
) -> None:
    badge.outcome = lambda _: Rejected("badge_expired", {"since": "monday"})
    refused = ask(harness, robot, "right")
    assert b"badge" not in refused.response.body
    details = harness.named("client_authentication_failed")[-1].details
    assert (details["reason"], details["since"]) == ("badge_expired", "monday")


@pytest.mark.parametrize("member", ["presented", "verify"])
def test_a_method_that_fails_is_503_and_never_500(
    harness: Harness, badge: Badge, robot: Registered, member: str
) -> None:
    for trouble in (KeyError("x"), StoreUnavailable("its database is away")):

        def fail(*_: object, error: Exception = trouble) -> Any:
            raise error

        setattr(badge, member, fail)
        assert ask(harness, robot, "right").error == (503, "temporarily_unavailable")


def test_the_metadata_names_the_methods(harness: Harness, robot: Registered) -> None:
    assert robot.client.auth_method == "badge"
    metadata = harness.send("GET", "/.well-known/oauth-authorization-server").json
    usual = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
    assert metadata["token_endpoint_auth_methods_supported"] == [*usual, "none", "badge"]
    assert metadata["introspection_endpoint_auth_methods_supported"] == [*usual, "badge"]


def test_a_process_without_the_method_refuses_its_clients(
    harness: Harness, robot: Registered
) -> None:
    harness.server = harness.another(people=harness.people)
    assert ask(harness, robot, "right").error == (401, "invalid_client")


def test_the_clients_of_a_method_may_have_keys(harness: Harness, robot: Registered) -> None:
    keys: dict[str, Any] = {"keys": []}
    with pytest.raises(ConfigurationError, match="jwks="):
        harness.add("Empty", auth_method="badge", jwks=keys, redirect_uris=[])
    with pytest.raises(ConfigurationError, match="has no keys"):
        harness.add("Secret", auth_method="client_secret_post", jwks=keys)


@pytest.mark.parametrize(
    ("method", "complaint"),
    [
        (Badge, "pass an object"),
        (object(), "pass an object"),
        (type("Named", (Badge,), {"name": "with space"})(), "is no name"),
        (type("Named", (Badge,), {"name": ""})(), "is no name"),
        (type("Named", (Badge,), {"name": 7})(), "is no name"),
        (type("Named", (Badge,), {"name": "none"})(), "already"),
        (type("Named", (Badge,), {"name": "client_secret"})(), "already"),
    ],
)
def test_what_cannot_be_registered_is_refused(
    harness: Harness, method: Any, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        harness.server.authentication_methods.register(method)
    assert len(harness.server.authentication_methods) == 4


def test_the_servers_own_methods_have_the_same_interface(harness: Harness) -> None:
    for method in harness.server.authentication_methods.values():
        assert isinstance(method, ClientAuthenticationMethod)


@pytest.mark.parametrize(
    "presented",
    [
        "right",
        True,
        Presented("abc", ("right",)),  # type: ignore[arg-type]
        Presented((None,), ("right",)),  # type: ignore[arg-type]
        Presented(("abc",), (7,)),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_presented_is_the_servers_fault(
    harness: Harness, badge: Badge, robot: Registered, presented: Any
) -> None:
    badge.presented = lambda *_: presented  # type: ignore[method-assign]
    assert ask(harness, robot, "right").status == 503
