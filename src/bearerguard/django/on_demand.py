"""Authentication in a view, where REST framework or Ninja demands it.

Behind the middleware its decision is read. Without it the request is authenticated here, once; one
without a token is then `ANONYMOUS`, and what refuses it is the view's.
"""

from __future__ import annotations

from typing import Any

from bearerguard.django.protection import Visit, protection, visit_of
from bearerguard.django.users import aset_user, set_user
from bearerguard.guard.config.requirement import Requirement, combined
from bearerguard.guard.decision import Allow, Decision, Deny, Unavailable, unauthenticated
from bearerguard.principal import Principal
from bearerguard.runtime.messages import Response


class RequestRefused(Exception):
    """The token of a request is refused.

    Attributes:
        decision: the decision.
        refusal: the response that refuses the request.
    """

    def __init__(self, decision: Deny | Unavailable, refusal: Response) -> None:
        super().__init__(decision.reason.description)
        self.decision: Deny | Unavailable = decision
        self.refusal: Response = refusal


def authenticate(request: Any) -> Principal:
    """Return the caller; raise `RequestRefused`."""
    visit = visit_of(request)
    if visit is None:
        visit = _begin(request)
        _admit(visit, visit.protection.guard.run(visit.decide()))
        _keep(visit, set_user(visit, request))
    return visit.principal


async def aauthenticate(request: Any) -> Principal:
    """Do what `authenticate` does, in an event loop."""
    visit = visit_of(request)
    if visit is None:
        visit = _begin(request)
        _admit(visit, await visit.protection.guard.arun(visit.decide()))
        _keep(visit, await aset_user(visit, request))
    return visit.principal


def unmet(
    request: Any, principal: Principal, requirement: Requirement | None
) -> RequestRefused | None:
    """Return the refusal of a caller that does not meet a requirement and the settings' own."""
    visit = visit_of(request) or _begin(request)
    whole = combined(visit.protection.admission.requirement, requirement)
    deny = visit.protection.guard.authorize(principal, whole, place=visit.place)
    return None if deny is None else RequestRefused(deny, visit.refusal(deny))


def missing(request: Any, requirement: Requirement | None) -> RequestRefused:
    """Return the refusal of a request that has no token, naming the scopes that it needs."""
    visit = visit_of(request) or _begin(request)
    whole = combined(visit.protection.admission.requirement, requirement)
    deny = unauthenticated(visit.protection.guard.realm, whole)
    return RequestRefused(deny, visit.refusal(deny))


def _begin(request: Any) -> Visit:
    return Visit(protection(), request, is_optional=True)


def _admit(visit: Visit, decision: Decision) -> None:
    # A refused request keeps no trace of it: a second look must not find it admitted.
    if not isinstance(decision, Allow):
        raise RequestRefused(decision, visit.refusal(decision))
    visit.admit(decision)


def _keep(visit: Visit, deny: Deny | None) -> None:
    if deny is not None:
        visit.withdraw()
        raise RequestRefused(deny, visit.refusal(deny))
