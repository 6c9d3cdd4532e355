"""The claim `act` of exchanged tokens: who acts for the subject, and who did (RFC 8693 §4.1).

Each exchange by another party adds one actor. Pure: no state, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Act: TypeAlias = Mapping[str, Any]

# An exchange by a sixth actor is refused: a chain that goes on growing is a loop.
MAX_ACTORS = 5
# What identifies an actor. Other members that an issuer adds are not passed on.
_MEMBERS = ("iss", "sub", "client_id")
_MAX_TEXT = 255


class MalformedAct(ValueError):
    """The claim `act` of a token is malformed, or its chain is too long."""


def chain(claims: Mapping[str, Any], server: str) -> list[dict[str, str]]:
    """Return the actors of a token, the current one first; raises `MalformedAct`.

    An actor without `iss` is one of the token's issuer: it is named unless that is this server.
    """
    issuer = claims.get("iss", server)
    own = {} if issuer == server else {"iss": issuer}
    found: list[dict[str, str]] = []
    act = claims.get("act")
    while act is not None:
        if not isinstance(act, Mapping):
            raise MalformedAct("act is no object")
        actor = {name: act[name] for name in _MEMBERS if name in act}
        if not actor or not all(_is_text(each) for each in actor.values()):
            raise MalformedAct("act does not identify an actor")
        found.append({**own, **actor})
        if len(found) > MAX_ACTORS:
            raise MalformedAct(f"act names more than {MAX_ACTORS} actors")
        act = act.get("act")
    return found


def joined(actors: list[dict[str, str]]) -> Act | None:
    """Return actors as the claim `act`, the current one first; None without any."""
    act: dict[str, Any] | None = None
    for actor in reversed(actors):
        act = dict(actor) if act is None else {**actor, "act": act}
    return act


def may_act(claims: Mapping[str, Any], actor: Mapping[str, str], server: str) -> bool:
    """Whether `may_act` of a subject token allows an actor (RFC 8693 §4.4); so without one.

    Without `iss` it allows an actor of the token's issuer or of this server: the same `sub` of
    another issuer is somebody else.
    """
    allowed = claims.get("may_act")
    if allowed is None:
        return True
    return (
        isinstance(allowed, Mapping)
        and "sub" in allowed
        and ("iss" in allowed or actor["iss"] in {claims.get("iss"), server})
        and all(actor.get(name) == allowed[name] for name in _MEMBERS if name in allowed)
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT
