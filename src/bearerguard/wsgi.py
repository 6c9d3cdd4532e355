"""The WSGI face: translates the environ to the guard and its verdicts back (PEP 3333).

Decides nothing; imports no framework. The app's iterable is returned as it is, so that
streaming, `close()` and `wsgi.file_wrapper` stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from bearerguard.guard.admission import Admission
from bearerguard.guard.answer import Completion, refusal
from bearerguard.guard.decision import Allow, Deny, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.guard.requirement import Requirement
from bearerguard.messages import Response
from bearerguard.principal import ANONYMOUS

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]


class BearerMiddleware:
    """Authenticates every request of a WSGI app.

    Sets `environ["bearerguard.principal"]` to the `Principal`, and
    `environ["bearerguard.face"]` to itself for whoever needs its guard.

    Args:
        app: the app to protect.
        guard: who decides.
        require: what every request of this app needs, besides the guard's own requirement.
        optional: True, or paths, where a request without a token passes as `ANONYMOUS`.
        exclude: paths that are not authenticated at all; exact, or `prefix*`, below the mount.

    Raises:
        ConfigurationError: an option is malformed.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        guard: Guard,
        require: Requirement | None = None,
        optional: bool | Sequence[str] = False,
        exclude: Sequence[str] = (),
    ) -> None:
        self.app = app
        self.admission = Admission(guard, require=require, optional=optional, exclude=exclude)
        self.guard = guard
        self.requirement = self.admission.requirement
        completion = Completion(guard, encode=str, name=str)
        self._complete = completion.complete
        self._completes = completion.is_due
        self._has_paths = self.admission.has_paths
        self._recall = guard.recall

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer or pass on."""
        environ["bearerguard.face"] = self
        optional = False
        if self._has_paths or environ["REQUEST_METHOD"] == "OPTIONS":
            if self._passes_unasked(environ):
                environ["bearerguard.principal"] = ANONYMOUS
                return self.app(environ, start_response)
            optional = self.admission.is_optional(*_path(environ))
        authorization = environ.get("HTTP_AUTHORIZATION")
        requirement = self.requirement
        principal = None if authorization is None else self._recall(authorization)
        if principal is None or not (requirement is None or requirement.met_by(principal)):
            fields = () if authorization is None else (_octets(authorization),)
            decision = self.guard.run(self.guard.decide(fields, requirement, optional=optional))
            if not isinstance(decision, Allow):
                environ["bearerguard.principal"] = ANONYMOUS
                return self.refuse(environ, start_response, decision)
            principal = decision.principal
        environ["bearerguard.principal"] = principal
        with_origin = "HTTP_ORIGIN" in environ
        if not (self._completes or optional or with_origin):
            return self.app(environ, start_response)
        complete = self._complete

        def completing(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            lines = complete(headers, principal, with_origin, optional)
            if exc_info is None:
                return start_response(status, lines)
            return start_response(status, lines, exc_info)

        return self.app(environ, completing)

    def refuse(
        self,
        environ: Environ,
        start_response: StartResponse,
        decision: Deny | Unavailable,
    ) -> Iterable[bytes]:
        """Answer a refused request; a framework's face may let its framework do so."""
        answer = self.answer(environ, decision)
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        start_response(status, list(answer.headers))
        return [answer.body]

    def answer(self, environ: Environ, decision: Deny | Unavailable) -> Response:
        """Return the response that refuses the request of `environ`."""
        return refusal(
            self.guard,
            decision,
            method=environ["REQUEST_METHOD"],
            with_origin="HTTP_ORIGIN" in environ,
            optional=self.admission.is_optional(*_path(environ)),
        )

    def _passes_unasked(self, environ: Environ) -> bool:
        """Whether it is excluded, or a CORS preflight, which carries no credentials."""
        if (
            environ["REQUEST_METHOD"] == "OPTIONS"
            and "HTTP_ORIGIN" in environ
            and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        ):
            return True
        return self.admission.is_excluded(*_path(environ))


def _path(environ: Environ) -> tuple[str, str]:
    """Return the path below the mount, and the raw path where the server tells it."""
    path = _octets(environ.get("PATH_INFO", "")).decode("utf-8", "replace")
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    return path or "/", urlsplit(raw).path


def _octets(text: str) -> bytes:
    # PEP 3333: text is octets in disguise; what is none matches no credentials or path.
    return text.encode("latin-1", "replace")
