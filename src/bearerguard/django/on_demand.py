"""Authentication in a view, where REST framework or Ninja demands it.

Behind the middleware, the middleware's decision is used. Without it, the request is authenticated
here, once; a request without a token is then `ANONYMOUS`, and the view's permissions refuse it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from bearerguard.django.protection import GuardedRequest, guarded_request, protection
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
    """Return the caller; raises `RequestRefused`."""
    guarded = guarded_request(request)
    if guarded is None:
        guarded = _begin(request)
        with _admitted(guarded, guarded.protection.guard.run(guarded.decide())):
            _check_user(guarded, set_user(guarded, request))
    return guarded.principal


async def aauthenticate(request: Any) -> Principal:
    """Do what `authenticate` does, in an event loop."""
    guarded = guarded_request(request)
    if guarded is None:
        guarded = _begin(request)
        with _admitted(guarded, await guarded.protection.guard.arun(guarded.decide())):
            _check_user(guarded, await aset_user(guarded, request))
    return guarded.principal


def unmet(
    request: Any, principal: Principal, requirement: Requirement | None
) -> RequestRefused | None:
    """Return the refusal of a caller that does not meet a requirement and the settings' own.

    The guard reports it.
    """
    guarded = guarded_request(request) or _begin(request)
    whole = combined(guarded.protection.admission.requirement, requirement)
    deny = guarded.protection.guard.authorize(principal, whole, place=guarded.place)
    return None if deny is None else RequestRefused(deny, guarded.refusal(deny))


def missing(request: Any, requirement: Requirement | None) -> RequestRefused:
    """Return the refusal of a request that has no token; the guard does not report it."""
    guarded = guarded_request(request) or _begin(request)
    whole = combined(guarded.protection.admission.requirement, requirement)
    deny = unauthenticated(guarded.protection.guard.challenge, whole)
    return RequestRefused(deny, guarded.refusal(deny))


def _begin(request: Any) -> GuardedRequest:
    return GuardedRequest(protection(), request, is_optional=True)


@contextmanager
def _admitted(guarded: GuardedRequest, decision: Decision) -> Generator[None]:
    """Admit a request; it keeps no trace of it unless the block ends well.

    A second call, such as that of a page that describes an error, must not find it admitted.
    """
    if not isinstance(decision, Allow):
        raise RequestRefused(decision, guarded.refusal(decision))
    guarded.admit(decision)
    try:
        yield
    except BaseException:
        guarded.withdraw()
        raise


def _check_user(guarded: GuardedRequest, deny: Deny | None) -> None:
    if deny is not None:
        raise RequestRefused(deny, guarded.refusal(deny))
