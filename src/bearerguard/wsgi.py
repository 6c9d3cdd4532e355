"""The WSGI face: translates the environ to the guard and its verdicts back (PEP 3333).

Decides nothing; imports no framework. The app's iterable is returned as it is, so that
streaming, `close()` and `wsgi.file_wrapper` stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from types import MethodType
from typing import Any, TypeAlias

from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.decision import Allow, Deny, Pending, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.guard.tokens.token_cache import SUFFIX
from bearerguard.middleware.admission import Admission
from bearerguard.middleware.refusal import refusal
from bearerguard.middleware.response_headers import Completion, Telling
from bearerguard.principal import ANONYMOUS
from bearerguard.runtime.messages import Response

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
Refuse: TypeAlias = Callable[[Environ, StartResponse, Deny | Unavailable], Iterable[bytes]]


class Face:
    """What whoever stands behind the middleware needs of it: its guard, and how it refuses."""

    def __init__(self, admission: Admission) -> None:
        self.guard = admission.guard
        self.requirement = admission.requirement
        self.asks_first = admission.asks_first
        self._admission = admission

    def answer(self, environ: Environ, decision: Deny | Unavailable) -> Response:
        """Return the response that refuses the request of `environ`."""
        if isinstance(decision, Deny) and _is_preflight(environ):
            self._admission.preflight_refused()
        return refusal(
            self.guard,
            decision,
            method=environ["REQUEST_METHOD"],
            with_origin="HTTP_ORIGIN" in environ,
            optional=self.is_optional(environ),
        )

    def refuse(
        self, environ: Environ, start_response: StartResponse, decision: Deny | Unavailable
    ) -> Iterable[bytes]:
        """Answer a refused request."""
        answer = self.answer(environ, decision)
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        start_response(status, list(answer.headers))
        return [answer.body]

    def is_optional(self, environ: Environ) -> bool:
        """Whether the request of `environ` passes without a token."""
        return self._admission.is_optional(*_path(environ))

    def passes_unasked(self, environ: Environ) -> bool:
        """Whether it is excluded, or a CORS preflight where those pass."""
        admission = self._admission
        return admission.is_excluded(*_path(environ)) or (
            admission.passes_preflights and _is_preflight(environ)
        )


# A function, though it goes by the name of a class: calling an instance costs as much as
# finding a token in use.
def BearerMiddleware(  # noqa: N802 - the name of a class
    app: WSGIApp,
    *,
    guard: Guard,
    require: Requirement | None = None,
    optional: bool | Sequence[str] = False,
    exclude: Sequence[str] = (),
    pass_preflights: bool = False,
) -> WSGIApp:
    """Return a WSGI app that authenticates every request of `app`.

    Sets `environ["bearerguard.principal"]` to the `Principal`, and
    `environ["bearerguard.face"]` to a `Face` for whoever needs the guard. What is returned is
    a function.

    Args:
        app: the app to protect.
        guard: who decides.
        require: what every request of this app needs, besides the guard's own requirement.
        optional: True, or paths, where a request without a token passes as `ANONYMOUS`.
        exclude: paths that are not authenticated at all; exact, or `prefix*`, below the mount.
        pass_preflights: let CORS preflights through without a token, for CORS middleware inside
            `app`. Whoever writes such a request reaches whatever `app` does with OPTIONS.

    Raises:
        ConfigurationError: an option is malformed.
    """
    admission = Admission(
        guard,
        require=require,
        optional=optional,
        exclude=exclude,
        pass_preflights=pass_preflights,
        app=app,
    )
    return authenticating(app, Face(admission))


# In one piece: here a call of its own would cost as much as what it does.
def authenticating(  # noqa: C901 - in one piece
    app: WSGIApp, face: Face, refuse: Refuse | None = None
) -> WSGIApp:
    """Return what `BearerMiddleware` does; `refuse` answers instead of the face."""
    refuse = refuse or face.refuse
    guard, requirement, asks_first = face.guard, face.requirement, face.asks_first
    recent, cached, clock = guard.recent, guard.cached, guard.clock
    completion = Completion(guard, encode=str, name=str)
    complete = _completing(completion, clock) if completion.is_due else None

    def authenticate(  # noqa: C901 - in one piece
        environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        environ["bearerguard.face"] = face
        is_optional = False
        if asks_first:
            if face.passes_unasked(environ):
                environ["bearerguard.principal"] = ANONYMOUS
                return app(environ, start_response)
            is_optional = face.is_optional(environ)
        authorization = environ.get("HTTP_AUTHORIZATION")
        known = None
        if authorization is not None:
            known = recent.get(authorization[SUFFIX])
            if (
                known is None
                or known.authorization != authorization
                or not known.since <= clock() < known.until
            ):
                known = cached(authorization)
        if known is None or not (requirement is None or requirement.met_by(known.principal)):
            fields = () if authorization is None else (_octets(authorization),)
            path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
            place = f"{environ['REQUEST_METHOD']} {path}"
            decision = guard.decide_now(fields, requirement, optional=is_optional, place=place)
            if isinstance(decision, Pending):
                decision = guard.run(decision.flow)
            if not isinstance(decision, Allow):
                environ["bearerguard.principal"] = ANONYMOUS
                return refuse(environ, start_response, decision)
            principal, telling = decision.principal, None
        else:
            principal, telling = known.principal, known.token_headers
        environ["bearerguard.principal"] = principal
        with_origin = "HTTP_ORIGIN" in environ
        if with_origin or is_optional:
            start_response = _merging(
                start_response, completion, with_origin=with_origin, optional=is_optional
            )
        if complete is not None:
            if telling is None:
                telling = completion.telling(principal)
                if known is not None:
                    known.token_headers = telling
            # A bound method is made in half the time of a closure.
            start_response = MethodType(complete, (start_response, telling))
        return app(environ, start_response)

    return authenticate


# In one piece, as in asgi.py: a call for what both do takes a tenth of the floor per response.
def _completing(
    completion: Completion[str], clock: Callable[[], float]
) -> Callable[..., Callable[[bytes], object]]:
    """Return what starts a response, and adds to it what is told of a token."""
    lengths, ours = completion.lengths, completion.ours

    def complete(
        response: tuple[StartResponse, Telling],
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,
    ) -> Callable[[bytes], object]:
        start_response, telling = response
        since, until, told = telling.present
        now = clock()
        if not since < now <= until:
            told = completion.renewed(telling, now)
        if type(headers) is not list:
            headers = list(headers)
        for name, _ in headers:
            if len(name) in lengths and name.lower() in ours:
                told = completion.unsaid(told, headers)
                break
        lines = headers + told
        if exc_info is None:
            return start_response(status, lines)
        return start_response(status, lines, exc_info)

    return complete


def _merging(
    start_response: StartResponse,
    completion: Completion[str],
    *,
    with_origin: bool,
    optional: bool,
) -> StartResponse:
    def merge(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        lines = [*headers]
        completion.merge(lines, with_origin=with_origin, optional=optional)
        if exc_info is None:
            return start_response(status, lines)
        return start_response(status, lines, exc_info)

    return merge


def _path(environ: Environ) -> tuple[str, str]:
    """Return the path below the mount, and the raw path where the server tells it."""
    path = _octets(environ.get("PATH_INFO", "")).decode("utf-8", "replace")
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    # In whatever form the request target is: a host in it can make a path ambiguous only.
    return path or "/", raw.partition("?")[0]


def _is_preflight(environ: Environ) -> bool:
    """Whether a browser asks by this request whether it may send another (Fetch, §3.2.2).

    It asks so without credentials (§4.8).
    """
    return (
        environ["REQUEST_METHOD"] == "OPTIONS"
        and "HTTP_ORIGIN" in environ
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        and "HTTP_AUTHORIZATION" not in environ
    )


def _octets(text: str) -> bytes:
    # PEP 3333: text is octets in disguise; what is none matches no credentials or path.
    return text.encode("latin-1", "replace")
