"""Requests, responses, claims and principals: immutable, quiet, portable."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
import time
from typing import Any

import pytest

from bearerguard import ANONYMOUS, Actor, Claims, Principal, Request, Response
from bearerguard.testing import SigningKey, sign

CLAIMS = Claims({"name": "Ada", "address": {"country": "GB"}, "groups": ["a", {"b": 1}]})
ADA = Principal(
    issuer="https://id.test",
    subject="ada",
    client_id="app",
    scopes=frozenset({"write", "read"}),
    expires_at=100.0,
    claims=CLAIMS,
)


def test_a_request_keeps_repeated_lines_and_hides_them() -> None:
    request = Request("GET", "/x?access_token=abc", [("Authorization", "Bearer x"), (b"a", b"1")])
    assert request.values(b"authorization") == [b"Bearer x"]
    assert Request(headers={"A": "ü", "B": "€"}).headers == ((b"a", b"\xfc"), (b"b", b"?"))
    assert repr(request) == "Request('GET')"


def test_a_response_finds_its_headers_in_any_case() -> None:
    response = Response(200, (("Retry-After", "1"),))
    assert response.header("retry-after") == "1"
    assert response.header("vary") is None


def test_claims_are_immutable_to_the_bottom() -> None:
    claims: Any = CLAIMS
    with pytest.raises(AttributeError, match="immutable"):
        claims.name = "Eve"
    with pytest.raises(AttributeError, match="immutable"):
        del claims.name
    with pytest.raises(TypeError):
        claims["name"] = "Eve"
    with pytest.raises(TypeError):
        claims["address"]["country"] = "FR"
    assert claims["groups"] == ("a", Claims({"b": 1}))
    copy = CLAIMS.to_dict()
    copy["address"]["country"] = "FR"
    assert CLAIMS["address"]["country"] == "GB"
    assert len(Claims()) == 0
    assert hash(CLAIMS) == hash(Claims(CLAIMS.to_dict()))


def test_initialising_claims_or_a_principal_again_does_not_change_them() -> None:
    claims, ada = Claims({"role": "reader"}), Principal(subject="ada")
    for value, change in ((claims, {"members": {"role": "admin"}}), (ada, {"subject": "eve"})):
        initialise: Any = type(value).__init__
        initialise(value, **change)
    assert (claims["role"], ada.subject) == ("reader", "ada")


class Tagged(Principal):
    """A subclass of an application, with a member of its own."""

    tag: str


def test_a_subclass_of_a_principal_has_its_values_and_members_of_its_own() -> None:
    tagged = Tagged(subject="ada", scopes=["read"])
    object.__setattr__(tagged, "tag", "admin")
    assert (tagged.subject, tagged.scopes) == ("ada", frozenset({"read"}))
    assert tagged.tag == "admin"
    assert type(copy.copy(tagged)) is Tagged
    with pytest.raises(dataclasses.FrozenInstanceError):
        tagged.subject = "eve"  # type: ignore[misc]


def test_a_principal_is_frozen_however_it_was_made() -> None:
    for ada in (ADA, copy.copy(ADA), dataclasses.replace(ADA, acr="high")):
        assert type(ada) is Principal
        with pytest.raises(dataclasses.FrozenInstanceError):
            ada.subject = "eve"  # type: ignore[misc]
        assert not hasattr(ada, "__dict__")


def test_a_principal_can_be_pickled_and_compared() -> None:
    assert pickle.loads(pickle.dumps(ADA)) == ADA
    assert len({ADA, pickle.loads(pickle.dumps(ADA)), ANONYMOUS}) == 2
    assert Principal(issuer="i", claims=Claims(ADA.to_dict())).to_dict()["claims"]["scopes"]
    assert ADA.to_dict() == {
        "issuer": "https://id.test",
        "subject": "ada",
        "subject_kind": "user",
        "client_id": "app",
        "scopes": ["read", "write"],
        "roles": [],
        "token_id": None,
        "issued_at": None,
        "expires_at": 100.0,
        "acr": None,
        "auth_time": None,
        "actor": None,
        "claims": {"name": "Ada", "address": {"country": "GB"}, "groups": ["a", {"b": 1}]},
    }


def test_a_principal_says_who_acts_and_who_did_before() -> None:
    before = {"iss": "https://other.test", "sub": "console"}
    act = {"sub": "agent", "client_id": "agent-1", "act": before}
    actor = Principal(issuer="https://id.test", subject="ada", claims={"act": act}).actor
    assert actor is not None
    assert (actor.subject, actor.client_id, actor.issuer) == ("agent", "agent-1", None)
    assert actor.actor == Actor(Claims(before))
    assert (actor.actor.issuer, actor.actor.actor) == ("https://other.test", None)
    assert actor.to_dict() == {
        "issuer": None,
        "subject": "agent",
        "client_id": "agent-1",
        "actor": {
            "issuer": "https://other.test",
            "subject": "console",
            "client_id": None,
            "actor": None,
        },
    }
    assert Principal(issuer="i", claims={"act": act}).to_dict()["actor"] == actor.to_dict()


def test_an_actor_is_immutable_portable_and_shows_nobody() -> None:
    actor: Any = Principal(claims={"act": {"sub": "agent", "roles": ["a"]}}).actor
    assert len({actor, pickle.loads(pickle.dumps(actor)), copy.deepcopy(actor)}) == 1
    assert actor.claims["roles"] == ("a",)
    assert "agent" not in repr(actor)
    for name in ("claims", "subject", "nickname"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(actor, name, "eve")


@pytest.mark.parametrize("act", ["agent", 7, ["agent"], None])
def test_a_malformed_act_names_no_actor(act: Any) -> None:
    assert Principal(issuer="i", claims={"act": act}).actor is None
    nested = Principal(issuer="i", claims={"act": {"sub": ["x"], "act": act}}).actor
    assert nested is not None
    assert (nested.subject, nested.actor) == (None, None)


def test_a_principal_equals_only_principals() -> None:
    values: object = tuple(getattr(ADA, each.name) for each in dataclasses.fields(ADA))
    assert values != ADA
    assert copy.copy(ADA) == ADA
    assert copy.copy(ADA) is not ADA
    assert dataclasses.replace(ADA, claims=Claims()) != ADA
    assert hash(ADA) == hash(copy.deepcopy(ADA))
    plain: Any = ADA
    with pytest.raises(TypeError):
        iter(plain)
    with pytest.raises(TypeError):
        sorted([plain, plain])


def test_a_principal_cannot_be_changed() -> None:
    principal: Any = ADA
    for name in ("scopes", "subject", "nickname"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(principal, name, "admin")
    with pytest.raises(AttributeError):
        del principal.scopes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issuer", 7),
        ("subject", b"ada"),
        ("client_id", ["app"]),
        ("scopes", "read write"),
        ("scopes", ["read", 7]),
        ("scopes", None),
        ("roles", b"admin"),
        ("roles", 7),
        ("token_id", 7),
        ("issued_at", "1"),
        ("expires_at", True),
        ("acr", 1),
        ("auth_time", "now"),
        ("claims", [("a", 1)]),
    ],
)
def test_a_principal_is_not_made_of_values_of_other_types(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^{name}=: pass "):
        Principal(**{name: value})  # type: ignore[arg-type]


def test_a_principal_takes_any_collection_of_names_and_any_mapping_of_claims() -> None:
    principal = Principal(scopes=["read", "read"], roles={"a": 1}.keys(), claims={"a": [1]})
    assert principal.scopes == {"read"}
    assert principal.roles == {"a"}
    assert principal.claims == Claims({"a": [1]})
    assert hash(principal)


def test_a_repr_shows_no_claim() -> None:
    assert repr(ADA) == "Principal(issuer='https://id.test', scopes=['read', 'write'])"
    assert repr(CLAIMS) == "Claims(address, groups, name)"


def test_a_client_is_never_a_user() -> None:
    assert ADA.subject_kind == "user"
    assert Principal(issuer="i", subject="app", client_id="app").subject_kind == "client"
    assert Principal(issuer="i", client_id="app").subject_kind == "client"
    assert Principal(issuer="i", client_id="app").identity == "app"
    assert ANONYMOUS.subject_kind is None
    assert not ANONYMOUS.is_authenticated
    assert ANONYMOUS.identity == ""


def test_the_display_name_is_the_name_else_the_identity() -> None:
    assert ADA.display_name == "Ada"
    assert Principal(claims=Claims({"name": 3, "preferred_username": "al"})).display_name == "al"
    assert Principal(subject="x").display_name == "x"


def test_time_left_is_whole_seconds_and_never_negative() -> None:
    assert ADA.expires_in(40.5) == 59
    assert ADA.expires_in(200) == 0
    assert ADA.expires_in() == 0
    assert ANONYMOUS.expires_in() is None


@pytest.mark.parametrize("module", ["bearerguard", "bearerguard.asgi", "bearerguard.wsgi"])
def test_importing_is_light(module: str) -> None:
    heavy = ["httpx2", "anyio", "asyncio", "starlette", "flask", "werkzeug"]
    code = f"import sys, {module}; sys.exit(str([m for m in {heavy} if m in sys.modules] or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_a_principal_does_not_change_with_what_it_was_made_of() -> None:
    groups = ["a"]
    principal = Principal(claims={"groups": groups})
    groups.append("admin")
    assert principal.claims["groups"] == ("a",)


def test_a_name_of_another_type_is_refused_by_its_argument() -> None:
    with pytest.raises(TypeError, match="roles="):
        Principal(roles=[["admin"]])  # type: ignore[list-item]


RARELY_NEEDED = (
    "bearerguard.guard.config.introspection",
    "bearerguard.guard.config.settings",
    "bearerguard.guard.explanation",
    "bearerguard.guard.introspection.",
    "bearerguard.guard.revocation.",
    "bearerguard.guard.tokens.explainer",
    "bearerguard.protocol.client_authentication",
    "bearerguard.protocol.http.received_challenge",
    "bearerguard.protocol.jose.signing",
    "bearerguard.protocol.events.logout_token",
    "bearerguard.runtime.sealing",
    "bearerguard.runtime.shared_log",
    "bearerguard.providers",
    "bearerguard.client",
    "bearerguard.server",
)
VERIFYING = """
import sys
from bearerguard import Guard, Issuer
print(*sys.modules)
issuer = Issuer("https://id.test", audience="api", shared_secret="s" * 32, token_types=["JWT"])
guard = Guard(issuer)
for _ in range(2):
    assert guard.verify(sys.argv[1]).subject == "ada"
guard.health()
guard.warm()
guard.close()
print(*sys.modules)
"""


def test_a_guard_that_verifies_tokens_imports_only_what_that_needs() -> None:
    key = SigningKey.shared("HS256", b"s" * 32)
    claims = {"iss": "https://id.test", "aud": "api", "sub": "ada", "exp": time.time() + 600}
    token = sign({"alg": "HS256"}, claims, key)
    done = subprocess.run(
        [sys.executable, "-c", VERIFYING, token], capture_output=True, text=True, check=True
    )
    imported, used = (line.split() for line in done.stdout.splitlines())
    assert "bearerguard.guard.guard" in imported
    assert "bearerguard.transports.http" not in imported
    assert [name for name in used if name.startswith(RARELY_NEEDED)] == []
