"""A compromised signing key is withdrawn: its tokens are refused everywhere."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bearerguard import ConfigurationError, Guard, Issuer, Revocations, TokenError
from bearerguard.server import AuthorizationServer, SigningKeyError, SigningKeys
from bearerguard.server.tokens import signing_key as signing
from tests.server.harness import ISSUER, Harness, Make, Reply, header


def keys_of(server: AuthorizationServer) -> list[str]:
    return [key.kid for key in server.keys.all()]


def published(server: AuthorizationServer) -> list[str]:
    return [key["kid"] for key in server.keys.jwks()["keys"]]


def issued(harness: Harness) -> str:
    response: Reply = harness.token(grant_type="client_credentials")
    token: str = response.json["access_token"]
    return token


def forged(harness: Harness, kid: str) -> str:
    """Return what whoever took a key's private part can make."""
    (key,) = (each for each in harness.server.keys.all() if each.kid == kid)
    private = signing.open_private(key, harness.server.keys._sealer)
    now = int(harness.clock.now)
    content: dict[str, Any] = {
        "iss": ISSUER,
        "sub": "admin",
        "aud": ISSUER,
        "client_id": harness.app.client_id,
        "iat": now,
        "exp": now + 3600,
        "jti": "forged",
        "scope": "read write",
    }
    return private.sign({"typ": "at+jwt"}, content)


def test_a_key_in_use_is_gone_at_once_and_a_new_one_signs_in_every_process(
    harness: Harness,
) -> None:
    other = harness.another()
    (leaked,) = keys_of(harness.server)
    token, stolen = issued(harness), forged(harness, leaked)
    for server in (harness.server, other):
        assert server.introspect(token)["active"]
        assert server.introspect(stolen)["active"]
        assert published(server) == [leaked]
    new = harness.server.keys.withdraw(leaked)
    assert new != leaked
    for server in (harness.server, other):
        assert published(server) == keys_of(server) == [new]
        assert not server.introspect(token)["active"]
        assert not server.introspect(stolen)["active"]
        assert header(server.keys.sign({}, "at+jwt"))["kid"] == new
    assert harness.is_active(issued(harness))
    assert [dict(event.details) for event in harness.named("key_withdrawn")] == [
        {"kid": leaked, "algorithm": "ES256", "by": "app"}
    ]


def test_a_key_that_signed_before_is_not_taken_up_again(harness: Harness) -> None:
    (first,) = keys_of(harness.server)
    second = harness.server.keys.rotate(immediately=True)
    new = harness.server.keys.withdraw(second)
    assert keys_of(harness.server) == [first, new]
    assert header(issued(harness))["kid"] == new


def test_one_that_signs_no_more_is_withdrawn_without_a_new_one(harness: Harness) -> None:
    (first,) = keys_of(harness.server)
    second = harness.server.keys.rotate(immediately=True)
    assert harness.server.keys.withdraw(first) == second
    assert keys_of(harness.server) == published(harness.server) == [second]


def test_a_key_goes_on_signing_when_its_waiting_successor_is_withdrawn(
    harness: Harness,
) -> None:
    (first,) = keys_of(harness.server)
    waiting = harness.server.keys.rotate()
    assert harness.server.keys.withdraw(waiting) == first
    harness.clock.now += 30 * 86_400
    harness.server.prune()
    assert header(issued(harness))["kid"] == first
    assert first in published(harness.server)


def test_a_key_in_use_is_withdrawn_while_its_successor_waits(harness: Harness) -> None:
    (first,) = keys_of(harness.server)
    waiting = harness.server.keys.rotate()
    new = harness.server.keys.withdraw(first)
    assert keys_of(harness.server) == [new, waiting]
    last = issued(harness)
    assert header(last)["kid"] == new
    harness.clock.now += 601
    assert header(issued(harness))["kid"] == waiting
    assert harness.is_active(last)
    harness.clock.now += 2 * 3600
    harness.server.prune()
    assert keys_of(harness.server) == [waiting]


def test_a_new_key_has_the_algorithm_that_the_server_signs_with(make: Make) -> None:
    harness = make(signing=SigningKeys(algorithm="EdDSA"))
    (first,) = keys_of(harness.server)
    harness.server.keys.withdraw(first)
    (key,) = harness.server.keys.all()
    assert key.algorithm == "EdDSA"


def test_every_key_may_be_withdrawn_one_after_the_other(harness: Harness) -> None:
    harness.server.keys.rotate(immediately=True)
    harness.server.keys.rotate()
    old = keys_of(harness.server)
    for kid in old:
        harness.server.keys.withdraw(kid)
    assert not set(keys_of(harness.server)) & set(old)
    assert harness.is_active(issued(harness))


@pytest.mark.parametrize("kid", ["", "nobody's", "\x1b[31m"])
def test_a_key_that_is_none_is_refused_and_nothing_changes(harness: Harness, kid: str) -> None:
    before = keys_of(harness.server)
    with pytest.raises(SigningKeyError, match="There is no key") as refusal:
        harness.server.keys.withdraw(kid)
    assert "\x1b" not in str(refusal.value)
    assert keys_of(harness.server) == before


def test_a_process_that_starts_later_does_not_bring_it_back(harness: Harness) -> None:
    (leaked,) = keys_of(harness.server)
    new = harness.server.keys.withdraw(leaked)
    assert keys_of(harness.another()) == [new]


def test_listeners_are_notified(harness: Harness) -> None:
    (leaked,) = keys_of(harness.server)
    notified: list[tuple[str, str]] = []
    harness.server.on_revocation(lambda revoked: notified.append((revoked.kind, revoked.value)))
    harness.server.keys.withdraw(leaked)
    assert notified == [("kid", leaked)]


# A clock that is set back


def test_a_server_whose_first_key_is_younger_than_now_goes_on(harness: Harness) -> None:
    harness.clock.now -= 3600
    token = issued(harness)
    assert harness.is_active(token)
    assert header(harness.another().keys.sign({}, "at+jwt"))["kid"] == header(token)["kid"]


def test_a_key_made_while_the_clock_is_behind_takes_over(harness: Harness) -> None:
    harness.clock.now -= 3600
    new = harness.server.keys.rotate(immediately=True)
    assert header(issued(harness))["kid"] == new
    harness.clock.now += 3600
    assert header(issued(harness))["kid"] == new


def test_a_key_withdrawn_while_the_clock_is_behind_is_replaced(harness: Harness) -> None:
    (leaked,) = keys_of(harness.server)
    harness.clock.now -= 3600
    new = harness.server.keys.withdraw(leaked)
    assert header(issued(harness))["kid"] == new
    harness.clock.now += 3600
    assert header(issued(harness))["kid"] == new


def test_a_key_that_waits_signs_rather_than_none(harness: Harness) -> None:
    (first,) = keys_of(harness.server)
    waiting = harness.server.keys.rotate()
    harness.clock.now += 3600 * 3
    harness.server.prune()
    assert keys_of(harness.server) == [waiting] != [first]
    harness.clock.now -= 3600 * 3
    assert header(issued(harness))["kid"] == waiting


# Guards that follow the server's revocations


def test_a_guard_beside_the_server_refuses_what_it_signed_at_once(harness: Harness) -> None:
    (leaked,) = keys_of(harness.server)
    seen, stolen, unseen = issued(harness), forged(harness, leaked), issued(harness)
    with Guard(harness.server.issuer(), clock=harness.clock) as guard:
        for token in (seen, stolen):
            guard.verify(token)
        harness.server.keys.withdraw(leaked)
        for token in (seen, stolen, unseen):
            with pytest.raises(TokenError):
                guard.verify(token)
        assert guard.verify(issued(harness)).subject_kind == "client"


def _passes(guard: Guard, token: str) -> bool:
    try:
        guard.verify(token)
    except TokenError:
        return False
    return True


def test_so_does_one_beside_another_process_that_has_the_key_still(harness: Harness) -> None:
    (leaked,) = keys_of(harness.server)
    token = issued(harness)
    other = harness.another()
    with Guard(harness.server.issuer(), clock=harness.clock) as guard:
        guard.verify(token)
        other.keys.withdraw(leaked)
        deadline = time.monotonic() + 30
        while _passes(guard, token) and time.monotonic() < deadline:
            time.sleep(0.05)  # the guard reads the log twice a second
        with pytest.raises(TokenError, match="revoked"):
            guard.verify(token)
        assert guard.verify(issued(harness)).subject_kind == "client"


def test_a_guard_that_starts_later_with_a_copy_of_the_keys_refuses_it_too(harness: Harness) -> None:
    (leaked,) = keys_of(harness.server)
    token, copied = issued(harness), harness.server.keys.jwks()
    harness.server.keys.withdraw(leaked)
    issuer = harness.server.issuer(keys=copied)
    with (
        Guard(issuer, clock=harness.clock) as guard,
        pytest.raises(TokenError, match="revoked"),
    ):
        guard.verify(token)


def test_a_guard_revokes_a_key_by_its_id(harness: Harness) -> None:
    (kid,) = keys_of(harness.server)
    token = issued(harness)
    issuer = Issuer(ISSUER, audience=ISSUER, keys=harness.server.keys.jwks())
    with Guard(issuer, clock=harness.clock, revocations=Revocations()) as guard:
        guard.verify(token)
        guard.revoke(key_id="another")
        guard.verify(token)
        guard.revoke(key_id=kid)
        with pytest.raises(TokenError, match="revoked"):
            guard.verify(token)
        with pytest.raises(ConfigurationError, match="is revoked whenever"):
            guard.revoke(key_id=kid, issued_before=1.0)


def test_a_store_whose_keys_somebody_removed_is_503(harness: Harness) -> None:
    harness.store.run("DELETE FROM signing_keys")
    response = harness.token(grant_type="client_credentials")
    assert response.error == (503, "temporarily_unavailable")
    assert "no signing key" in str(harness.named("store_unavailable"))
