"""Which requests pass a guard, and how the others are refused: the options of every adapter.

Knows neither ASGI nor WSGI nor a framework: an adapter describes each request by a `RequestInfo`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

from bearerguard.errors import ConfigurationError, Reason
from bearerguard.guard.binding.received_request import ReceivedRequest
from bearerguard.guard.config.options import check_requirement
from bearerguard.guard.config.requirement import Requirement, combined
from bearerguard.guard.decision import Allow, Decision, Deny, Unavailable
from bearerguard.guard.events import Place
from bearerguard.guard.guard import Guard
from bearerguard.middleware.inner_apps import cors_middleware_in
from bearerguard.middleware.refusal import refusal
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol import resource_metadata
from bearerguard.protocol.http.credentials import absence
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Response

_log = logging.getLogger("bearerguard")

PREFLIGHT_REMEDY = "put the CORS middleware outside, or pass_preflights=True"

# Spellings of a path that a proxy or an app may normalise to another path (RFC 3986 §6.2.2): it
# may resolve dots and slashes, decode once more, or drop parameters and control characters.
_AMBIGUOUS = re.compile(
    r"//|\\|(?:^|/)\.{1,2}(?:[/;]|$)|[\x00-\x1f\x7f]|%(?:25)*(?:2f|5c|2e)", re.IGNORECASE
)
_AMBIGUOUS_RAW = re.compile(r"%2f|%5c|%2e", re.IGNORECASE)


class AdmissionOptions(TypedDict, total=False):
    """The options that every adapter takes.

    Attributes:
        require: what every request needs, besides the guard's own requirement.
        optional: True, or path patterns, where a request without a token passes as `ANONYMOUS`.
        exclude: path patterns that are not authenticated at all.
        pass_preflights: whether CORS preflights pass without a token.
    """

    require: Requirement | None
    optional: bool | Sequence[str]
    exclude: Sequence[str]
    pass_preflights: bool


# Characters of the Authorization field in which a known scheme is looked for.
_SHOWN = 64


def _no_header(_name: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What admission and refusals need to know of a request, besides its credentials.

    Attributes:
        method: the HTTP method, or `WEBSOCKET`.
        path: the path below the mount, percent-decoded.
        raw_path: the path as the client sent it, or empty if the server does not report it.
        whole_path: the path with the mount, for log lines; `path` by default.
        has_origin: whether it has an Origin header: then a browser's script may read the response.
        is_preflight: whether it is a CORS preflight (Fetch, §3.2.2).
        is_optional: whether its route lets requests without a token pass as `ANONYMOUS`, besides
            the paths of `optional=`.
        route: the template of the whole path, such as `/items/{id}`, where the framework knows it;
            log lines then have it instead of the path.
        header: returns the value of a header field by its lower-case name, None for none.
    """

    method: str
    path: str
    raw_path: str = ""
    whole_path: str = ""
    has_origin: bool = False
    is_preflight: bool = False
    is_optional: bool = False
    route: str = ""
    header: Callable[[str], str | None] = field(default=_no_header, repr=False, compare=False)


class PathPatterns:
    """Path patterns: exact, or `prefix*`; case-sensitive. An ambiguous path matches none."""

    def __init__(self, option: str, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str) or not all(_is_pattern(each) for each in patterns):
            raise ConfigurationError(
                f'{option}=: pass a list of paths such as ("/health", "/static/*"): each begins'
                " with / and has * only at its end"
            )
        self._exact = frozenset(each for each in patterns if not each.endswith("*"))
        self._prefixes = tuple(each[:-1] for each in patterns if each.endswith("*"))

    def __bool__(self) -> bool:
        return bool(self._exact or self._prefixes)

    def name(self, path: str) -> bool:
        """Whether `path` is one of the patterns without `*`."""
        return path in self._exact

    def match(self, path: str, raw_path: str = "") -> bool:
        """Whether a pattern covers `path`, and neither `path` nor `raw_path` is ambiguous."""
        covered = path in self._exact or path.startswith(self._prefixes)
        return covered and not _AMBIGUOUS.search(path) and not _AMBIGUOUS_RAW.search(raw_path)


class Admission:
    """A guard and the checked options of an adapter: decides on requests, and refuses them.

    An adapter stores it with each request, for the decorators.

    Args:
        guard: validates the tokens.
        app: the protected app; CORS middleware inside it is reported in the log.
        preflight_remedy: the remedy that the event of a refused CORS preflight names.
        options: see `AdmissionOptions`.

    Attributes:
        guard: as passed.
        requirement: the guard's own and `require=`, combined.
        has_exceptions: False if every request needs a token: then no path need be compared.
        passes_preflights: whether CORS preflights pass without a token.

    Raises:
        ConfigurationError: an option is malformed.
    """

    guard: Guard
    requirement: Requirement | None
    has_exceptions: bool
    passes_preflights: bool

    def __init__(
        self,
        guard: Guard,
        *,
        app: object = None,
        preflight_remedy: str = PREFLIGHT_REMEDY,
        **options: Unpack[AdmissionOptions],
    ) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError("guard=: pass a Guard, such as Guard(Issuer(...))")
        require, optional = options.get("require"), options.get("optional", False)
        check_requirement(require)
        self.guard = guard
        self.requirement = combined(guard.requirement, require)
        self._excluded = PathPatterns("exclude", options.get("exclude", ()))
        self._always_optional = optional is True
        self._optional = PathPatterns("optional", () if isinstance(optional, bool) else optional)
        self.passes_preflights = options.get("pass_preflights", False)
        if not isinstance(self.passes_preflights, bool):
            raise ConfigurationError("pass_preflights=: pass True or False")
        self.has_exceptions = bool(
            self._excluded or self._optional or self._always_optional or self.passes_preflights
        )
        self._preflight_remedy = preflight_remedy
        if self.requirement != guard.requirement:
            guard.publish(self.requirement)
        cors = None if self.passes_preflights else cors_middleware_in(app)
        if cors is not None:
            _log.warning(
                "%s lies inside the guard, so CORS preflights will be refused before they reach"
                " it: %s",
                cors,
                preflight_remedy,
            )

    def excludes(self, path: str, raw_path: str = "") -> bool:
        """Whether a request for `path`, below the mount, is not authenticated at all."""
        return self._excluded.match(path, raw_path)

    def metadata(
        self, method: str, path: str, root: str, header: Callable[[str], str | None]
    ) -> Response | None:
        """Return the response to a request for the metadata of the API, None for another request.

        It needs no token. A path that `exclude=` names without `*` is the app's own.

        Args:
            method: the method of the request.
            path: its path below the mount, percent-decoded.
            root: the mount, without a final slash.
            header: returns the value of a header field by its lower-case name.
        """
        published = self.guard.published
        if published is None or not published.is_at(path, root) or self._excluded.name(path):
            return None
        return published.respond(method, header)

    def metadata_paths(self) -> list[str]:
        """Return the paths of the metadata, for a framework that needs a route for each."""
        published = self.guard.published
        places = [] if published is None else [resource_metadata.PATH, published.path]
        return [path for path in dict.fromkeys(places) if not self._excluded.name(path)]

    def exempts(self, request: RequestInfo) -> bool:
        """Whether a request is not authenticated: it is excluded, or a preflight that passes."""
        return self.excludes(request.path, request.raw_path) or (
            self.passes_preflights and request.is_preflight
        )

    def is_optional(self, path: str, raw_path: str = "") -> bool:
        """Whether a request for `path`, below the mount, passes without a token."""
        return self._always_optional or self._optional.match(path, raw_path)

    def decide(
        self,
        authorization: Sequence[bytes],
        request: RequestInfo,
        *,
        received: Callable[[], ReceivedRequest] | None = None,
    ) -> Flow[Decision]:
        """Decide on a request by the values of its Authorization header fields.

        Drive it with `guard.run(...)` or `await guard.arun(...)`. A request that is excluded,
        or a preflight where those pass, is allowed as `ANONYMOUS`. `received` returns what the
        sender of a bound token has to prove something about; without it, such tokens are refused.
        """
        if self.exempts(request):
            return Allow(ANONYMOUS)
        optional = request.is_optional or self.is_optional(request.path, request.raw_path)
        return (
            yield from self.guard.decide(
                authorization,
                self.requirement,
                optional=optional,
                place=lambda: self.place(request),
                request=received,
            )
        )

    def authorize(
        self, principal: Principal, requirement: Requirement, request: Callable[[], RequestInfo]
    ) -> Deny | None:
        """Return a `Deny` if `principal` does not meet the requirement, else None.

        The adapter's own requirement is included, so that a 403 names all that is needed.
        `request` is called only for a refusal.
        """
        whole = requirement if self.requirement is None else self.requirement & requirement
        if principal.is_authenticated and whole.met_by(principal):
            return None
        return self.guard.authorize(principal, whole, place=lambda: self.place(request()))

    def place(self, request: RequestInfo) -> Place:
        """Return how log lines and events name a request."""
        path = request.whole_path or request.path
        request_id = self.guard.request_id(request.header)
        field = request.header("authorization")
        sent = [] if field is None else [field[:_SHOWN].encode("latin-1", "replace")]
        offered = "" if sent else request.header("sec-websocket-protocol") or ""
        return Place(request.method, path, request.route, request_id, absence(sent, offered))

    def report_end(self, reason: Reason, place: Place) -> None:
        """Report the end of a stream: why it was ended, and where it was."""
        self.guard.report("stream_ended", reason.description, place=place)

    def refusal(self, decision: Deny | Unavailable, request: RequestInfo) -> Response:
        """Return the response that refuses a request: RFC 6750 §3, body as in RFC 9457."""
        if request.is_preflight and isinstance(decision, Deny):
            detail = f"a CORS preflight was refused: {self._preflight_remedy}"
            self.guard.report("preflight_refused", detail, place=self.place(request))
        return refusal(
            self.guard,
            decision,
            method=request.method,
            has_origin=request.has_origin,
            optional=request.is_optional or self.is_optional(request.path, request.raw_path),
        )


def _is_pattern(pattern: object) -> bool:
    return isinstance(pattern, str) and pattern[:1] == "/" and "*" not in pattern[:-1]
