"""A signing key that leaked is withdrawn: what it signs, or signed, is refused everywhere."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from bearerguard import ConfigurationError, Guard, Issuer, Revocations, TokenError
from bearerguard.server import AuthorizationServer, SigningKeyError
from bearerguard.server.tokens import signing_key as signing
from tests.server.stage import ISSUER, Answer, Make, Stage, header


def keys_of(server: AuthorizationServer) -> list[str]:
    return [key.kid for key in server.keys.all()]


def published(server: AuthorizationServer) -> list[str]:
    return [key["kid"] for key in server.keys.jwks()["keys"]]


def issued(stage: Stage) -> str:
    answer: Answer = stage.token(grant_type="client_credentials")
    token: str = answer.json["access_token"]
    return token


def forged(stage: Stage, kid: str) -> str:
    """Return what whoever took a key's private part can make."""
    (key,) = (each for each in stage.server.keys.all() if each.kid == kid)
    private = signing.open_private(key, stage.server.keys._sealer)
    now = int(stage.clock.now)
    content: dict[str, Any] = {
        "iss": ISSUER,
        "sub": "admin",
        "aud": ISSUER,
        "client_id": stage.app.client_id,
        "iat": now,
        "exp": now + 3600,
        "jti": "forged",
        "scope": "read write",
    }
    return private.sign({"typ": "at+jwt"}, content)


def test_a_key_in_use_is_gone_at_once_and_a_new_one_signs_in_every_process(stage: Stage) -> None:
    other = stage.another()
    (leaked,) = keys_of(stage.server)
    token, stolen = issued(stage), forged(stage, leaked)
    for server in (stage.server, other):
        assert server.introspect(token)["active"]
        assert server.introspect(stolen)["active"]
        assert published(server) == [leaked]
    new = stage.server.keys.withdraw(leaked)
    assert new != leaked
    for server in (stage.server, other):
        assert published(server) == keys_of(server) == [new]
        assert not server.introspect(token)["active"]
        assert not server.introspect(stolen)["active"]
        assert header(server.keys.sign({}, "at+jwt"))["kid"] == new
    assert stage.is_active(issued(stage))
    assert [dict(event.details) for event in stage.named("key_withdrawn")] == [
        {"kid": leaked, "algorithm": "ES256"}
    ]


def test_a_key_that_signed_before_is_not_taken_up_again(stage: Stage) -> None:
    (first,) = keys_of(stage.server)
    second = stage.server.keys.rotate(immediately=True)
    new = stage.server.keys.withdraw(second)
    assert keys_of(stage.server) == [first, new]
    assert header(issued(stage))["kid"] == new


def test_one_that_signs_no_more_is_withdrawn_without_a_new_one(stage: Stage) -> None:
    (first,) = keys_of(stage.server)
    second = stage.server.keys.rotate(immediately=True)
    assert stage.server.keys.withdraw(first) == second
    assert keys_of(stage.server) == published(stage.server) == [second]


def test_a_key_whose_successor_is_withdrawn_before_its_turn_signs_on_for_good(
    stage: Stage,
) -> None:
    (first,) = keys_of(stage.server)
    waiting = stage.server.keys.rotate()
    assert stage.server.keys.withdraw(waiting) == first
    stage.clock.now += 30 * 86_400
    stage.server.prune()
    assert header(issued(stage))["kid"] == first
    assert first in published(stage.server)


def test_a_key_in_use_is_withdrawn_while_its_successor_waits(stage: Stage) -> None:
    (first,) = keys_of(stage.server)
    waiting = stage.server.keys.rotate()
    new = stage.server.keys.withdraw(first)
    assert keys_of(stage.server) == [new, waiting]
    last = issued(stage)
    assert header(last)["kid"] == new
    stage.clock.now += 601
    assert header(issued(stage))["kid"] == waiting
    assert stage.is_active(last)
    stage.clock.now += 2 * 3600
    stage.server.prune()
    assert keys_of(stage.server) == [waiting]


def test_a_new_key_has_the_algorithm_that_the_server_signs_with(make: Make) -> None:
    stage = make(algorithm="EdDSA")
    (first,) = keys_of(stage.server)
    stage.server.keys.withdraw(first)
    (key,) = stage.server.keys.all()
    assert key.algorithm == "EdDSA"


def test_every_key_may_be_withdrawn_one_after_the_other(stage: Stage) -> None:
    stage.server.keys.rotate(immediately=True)
    stage.server.keys.rotate()
    old = keys_of(stage.server)
    for kid in old:
        stage.server.keys.withdraw(kid)
    assert not set(keys_of(stage.server)) & set(old)
    assert stage.is_active(issued(stage))


@pytest.mark.parametrize("kid", ["", "nobody's", "\x1b[31m"])
def test_a_key_that_is_none_is_refused_and_nothing_changes(stage: Stage, kid: str) -> None:
    before = keys_of(stage.server)
    with pytest.raises(SigningKeyError, match="There is no key") as refusal:
        stage.server.keys.withdraw(kid)
    assert "\x1b" not in str(refusal.value)
    assert keys_of(stage.server) == before


def test_a_process_that_starts_later_does_not_bring_it_back(stage: Stage) -> None:
    (leaked,) = keys_of(stage.server)
    new = stage.server.keys.withdraw(leaked)
    assert keys_of(stage.another()) == [new]


def test_who_listens_is_told(stage: Stage) -> None:
    (leaked,) = keys_of(stage.server)
    heard: list[tuple[str, str]] = []
    stage.server.on_revocation(lambda revoked: heard.append((revoked.kind, revoked.value)))
    stage.server.keys.withdraw(leaked)
    assert heard == [("kid", leaked)]


# A clock that is set back


def test_a_server_whose_first_key_is_younger_than_now_goes_on(stage: Stage) -> None:
    stage.clock.now -= 3600
    token = issued(stage)
    assert stage.is_active(token)
    assert header(stage.another().keys.sign({}, "at+jwt"))["kid"] == header(token)["kid"]


def test_a_key_made_while_the_clock_is_behind_takes_over_for_good(stage: Stage) -> None:
    stage.clock.now -= 3600
    new = stage.server.keys.rotate(immediately=True)
    assert header(issued(stage))["kid"] == new
    stage.clock.now += 3600
    assert header(issued(stage))["kid"] == new


def test_a_key_withdrawn_while_the_clock_is_behind_is_replaced(stage: Stage) -> None:
    (leaked,) = keys_of(stage.server)
    stage.clock.now -= 3600
    new = stage.server.keys.withdraw(leaked)
    assert header(issued(stage))["kid"] == new
    stage.clock.now += 3600
    assert header(issued(stage))["kid"] == new


def test_a_key_that_waits_signs_rather_than_none(stage: Stage) -> None:
    (first,) = keys_of(stage.server)
    waiting = stage.server.keys.rotate()
    stage.clock.now += 3600 * 3
    stage.server.prune()
    assert keys_of(stage.server) == [waiting] != [first]
    stage.clock.now -= 3600 * 3
    assert header(issued(stage))["kid"] == waiting


# Guards that follow the server's revocations


def test_a_guard_beside_the_server_refuses_what_it_signed_at_once(stage: Stage) -> None:
    (leaked,) = keys_of(stage.server)
    seen, stolen, unseen = issued(stage), forged(stage, leaked), issued(stage)
    with Guard(stage.server.issuer(), clock=stage.clock) as guard:
        for token in (seen, stolen):
            guard.verify(token)
        stage.server.keys.withdraw(leaked)
        for token in (seen, stolen, unseen):
            with pytest.raises(TokenError):
                guard.verify(token)
        assert guard.verify(issued(stage)).subject_kind == "client"


def _passes(guard: Guard, token: str) -> bool:
    try:
        guard.verify(token)
    except TokenError:
        return False
    return True


def test_so_does_one_beside_another_process_that_has_the_key_still(stage: Stage) -> None:
    (leaked,) = keys_of(stage.server)
    token = issued(stage)
    other = stage.another()
    with Guard(stage.server.issuer(), clock=stage.clock) as guard:
        guard.verify(token)
        other.keys.withdraw(leaked)
        deadline = time.monotonic() + 30
        while _passes(guard, token) and time.monotonic() < deadline:
            time.sleep(0.05)  # the guard reads the log twice a second
        with pytest.raises(TokenError, match="revoked"):
            guard.verify(token)
        assert guard.verify(issued(stage)).subject_kind == "client"


def test_a_guard_that_starts_later_with_a_copy_of_the_keys_refuses_it_too(stage: Stage) -> None:
    (leaked,) = keys_of(stage.server)
    token, copied = issued(stage), stage.server.keys.jwks()
    stage.server.keys.withdraw(leaked)
    issuer = stage.server.issuer(keys=copied)
    with (
        Guard(issuer, clock=stage.clock) as guard,
        pytest.raises(TokenError, match="revoked"),
    ):
        guard.verify(token)


def test_a_guard_revokes_a_key_by_its_id(stage: Stage) -> None:
    (kid,) = keys_of(stage.server)
    token = issued(stage)
    issuer = Issuer(ISSUER, audience=ISSUER, keys=stage.server.keys.jwks())
    with Guard(issuer, clock=stage.clock, revocations=Revocations()) as guard:
        guard.verify(token)
        guard.revoke(key_id="another")
        guard.verify(token)
        guard.revoke(key_id=kid)
        with pytest.raises(TokenError, match="revoked"):
            guard.verify(token)
        with pytest.raises(ConfigurationError, match="is revoked whenever"):
            guard.revoke(key_id=kid, issued_before=1.0)


def test_a_store_whose_keys_somebody_removed_is_503(stage: Stage) -> None:
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        database.execute("DELETE FROM signing_keys")
        database.commit()
    answer = stage.token(grant_type="client_credentials")
    assert answer.error == (503, "temporarily_unavailable")
    assert "no signing key" in str(stage.named("store_unavailable"))
