"""The guard of `settings.BEARERGUARD`, and what it does with a request of Django.

There is one `Protection` for the settings in force. It is made at the first use, which is the
middleware's when the app starts, and again when a test overrides the settings.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings as django_settings
from django.core.exceptions import RequestDataTooBig
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, get_resolver
from django.utils.http import is_same_domain

from bearerguard import asgi, wsgi
from bearerguard.django import settings
from bearerguard.errors import Reason
from bearerguard.guard.binding.received_request import ReceivedRequest
from bearerguard.guard.decision import Allow, Decision, Deny, Unavailable
from bearerguard.guard.events import Place
from bearerguard.guard.guard import Guard
from bearerguard.middleware.admission import Admission, RequestInfo
from bearerguard.middleware.chunks import Chunks
from bearerguard.middleware.expiry_headers import ResponseHeaders
from bearerguard.middleware.stream_end import may_look_complete
from bearerguard.middleware.streams import parts_until_ended
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Response
from bearerguard.wsgi import header, is_preflight

# False at a view that `token_not_required` has marked; as Django's own `login_required`.
TOKEN_REQUIRED = "bearerguard_token_required"  # noqa: S105 - the name of an attribute
_CHALLENGE = "www-authenticate"
_GUARDED = "_bearerguard"
_PREFLIGHT_REMEDY = (
    "put the CORS middleware above BearerMiddleware in MIDDLEWARE, or set"
    ' BEARERGUARD["PASS_PREFLIGHTS"]'
)


class Protection:
    """The guard and the options of the settings in force.

    Attributes:
        guard: validates the tokens.
        admission: decides on requests and refuses them.
        response_headers: adds the token's expiry to responses.
        user: returns the user of a principal, or a coroutine of it; None without one.
    """

    def __init__(self, read: settings.Settings) -> None:
        self.guard: Guard = read.guard
        self.admission: Admission = Admission(
            read.guard, preflight_remedy=_PREFLIGHT_REMEDY, **read.options
        )
        self.response_headers: ResponseHeaders[str] = ResponseHeaders(
            read.guard, encode=str, name=str
        )
        self.user: Any = read.user
        self._is_own = read.is_own

    def close(self) -> None:
        """Close the guard, if it was made from the settings."""
        if self._is_own:
            self.guard.close()


@cache
def protection() -> Protection:
    """Return what protects this project.

    Raises:
        ConfigurationError: `settings.BEARERGUARD` is missing, misspelt or malformed.
    """
    return settings.named(lambda: Protection(settings.read()))


def _forget(*, setting: str, **_: object) -> None:
    if setting == settings.NAME and protection.cache_info().currsize:
        protection().close()
        protection.cache_clear()


setting_changed.connect(_forget)


class GuardedRequest:
    """One request: its decision, its refusal, and the headers of its response.

    Args:
        protection: that of the settings in force when the request arrived.
        request: the request.
        is_optional: let it pass without a token, whatever the settings say: a permission of REST
            framework refuses it later.

    Attributes:
        protection: as passed.
    """

    __slots__ = (
        *("_csrf_done", "_is_exempt", "_is_marked", "_is_optional", "_match", "_request"),
        *("_added", "protection"),
    )

    def __init__(self, protection: Protection, request: Any, *, is_optional: bool = False) -> None:
        self.protection: Protection = protection
        self._request: Any = request
        # Whether something else had checked it for forgery, or found no need to.
        self._csrf_done: bool = getattr(request, "csrf_processing_done", False)
        self._is_exempt = False
        # What the response must have besides: the next nonce of a proof.
        self._added: tuple[tuple[str, str], ...] = ()
        # Whether the response may differ without a token.
        self._is_optional = is_optional
        # Whether it passed without a token only because its view is marked.
        self._is_marked = False
        self._match: Any = None

    @property
    def principal(self) -> Principal:
        """The caller."""
        principal: Principal = self._request.principal
        return principal

    def metadata(self) -> HttpResponse | None:
        """Return the response to a request for the API's metadata, None for another request."""
        meta = self._request.META
        response = self.protection.admission.metadata(
            self._request.method or "",
            self._request.path_info,
            self._request.path.removesuffix(self._request.path_info),
            partial(header, meta),
        )
        return None if response is None else response_of(response)

    def decide(self) -> Flow[Decision]:
        """Decide on the request; `admit` takes the decision."""
        admission, request = self.protection.admission, self._request
        forced = _forced(request)
        if forced is not None:
            return Allow(forced)
        authorization: str | None = request.META.get("HTTP_AUTHORIZATION")
        info = None
        if admission.has_exceptions:
            info = describe(request)
            if admission.exempts(info):
                self._is_exempt = True
                return Allow(ANONYMOUS)
            self._is_optional |= admission.is_optional(info.path, info.raw_path)
        if authorization is not None:
            known = self.protection.guard.cached(authorization)
            if known is not None and (
                admission.requirement is None
                or admission.requirement.met_by(known.principal)
                or self.protection.guard.meets(known.principal, admission.requirement)
            ):
                return Allow(known.principal)
        self._match = self._resolve()
        view = getattr(self._match, "func", None)
        self._is_marked = not (self._is_optional or token_required(view))
        self._is_optional |= self._is_marked
        # WSGI's text has one octet in each character, and Django makes the same of ASGI's.
        fields = [] if authorization is None else [authorization.encode("latin-1", "replace")]
        received = partial(received_request, request)
        decision = yield from admission.decide(fields, self.describe(), received=received)
        if not isinstance(decision, Allow):
            return decision
        self._added = decision.headers
        if decision.content_digest is None:
            return decision
        deny = admission.guard.check_body(decision.content_digest, _body(request), place=self.place)
        return deny or decision

    def admit(self, decision: Decision) -> HttpResponse | None:
        """Set `request.principal`; return the response if the request is refused."""
        request = self._request
        setattr(request, _GUARDED, self)
        request.principal = decision.principal if isinstance(decision, Allow) else ANONYMOUS
        if not isinstance(decision, Allow):
            return self.refuse(decision)
        certificates = self.protection.guard.certificates
        if certificates is not None:
            certificates.drop_forged(request.META)
            vars(request).pop("headers", None)  # which Django makes of META once
        if decision.principal.is_authenticated and not _may_be_forged(request):
            # Only a script that may set Authorization sends it: no other site's form or link does.
            request.csrf_processing_done = True
        if decision.principal.is_authenticated and self.protection.guard.cache_control is not None:
            # Django's cache would serve the response when the token has been revoked, too. Where a
            # view authenticates, no header says that it is private.
            request._cache_update_cache = False  # noqa: SLF001 - what that cache goes by
        return None

    def withdraw(self) -> None:
        """Undo `admit`."""
        delattr(self._request, _GUARDED)
        self._request.principal = ANONYMOUS
        self._request.csrf_processing_done = self._csrf_done

    def check_view(self, view: Any) -> HttpResponse | None:
        """Return the refusal of a request that passed because another view is marked, else None.

        The view is another one than was resolved if middleware has changed the URLconf.
        """
        if not token_required(view):
            self._is_optional = not self._is_exempt
            return None
        if not self._is_marked or self.principal.is_authenticated:
            return None
        self._is_optional = False
        guard, requirement = self.protection.guard, self.protection.admission.requirement
        decision = guard.authorize(ANONYMOUS, requirement, place=self.place)
        return self.refuse(decision)

    def refuse(self, decision: Deny | Unavailable | None) -> HttpResponse | None:
        """Return the response that refuses the request, None if nothing refuses it."""
        return None if decision is None else response_of(self.refusal(decision))

    def refusal(self, decision: Deny | Unavailable) -> Response:
        """Return the refusal as every framework has it."""
        return self.protection.admission.refusal(decision, self.describe())

    def describe(self) -> RequestInfo:
        """Describe the request for admission and refusals."""
        return describe(self._request, match=self._match, is_optional=self._is_optional)

    def place(self) -> Place:
        """Return how log lines and events name the request."""
        return self.protection.admission.place(self.describe())

    def complete(self, response: Any) -> Any:
        """Return the response with the guard's headers added."""
        if self._is_exempt:
            return response
        adding = self.protection.response_headers
        own = list(response.items())
        headers = adding.complete(adding.of_token(self.principal), own)
        has_origin = "HTTP_ORIGIN" in self._request.META
        if has_origin or self._is_optional:
            adding.add_to_lists(headers, has_origin=has_origin, optional=self._is_optional)
        _add(response, headers[len(own) :])
        for name, value in self._added:
            response[name] = value
            response["Cache-Control"] = "no-store"
        if getattr(response, "streaming", False) and self.principal.is_authenticated:
            self._hold(response)
        return response

    def _hold(self, response: Any) -> None:
        """Let the body of a streaming response end with the token."""
        guard, admission = self.protection.guard, self.protection.admission
        meta = self._request.META
        tokens = guard.stream_tokens
        if tokens is None or (
            getattr(response, "file_to_stream", None) is not None and "wsgi.file_wrapper" in meta
        ):
            return  # the server sends the file
        may_end = may_look_complete(response.items())
        fields = [meta.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")]
        token = partial(guard.stream_token, self.principal, fields)
        body = response.streaming_content
        if response.is_async:
            response.streaming_content = parts_until_ended(
                body, tokens, token, admission, self.place, may_look_complete=may_end
            )
            return

        def ended(reason: Reason) -> bool:
            admission.report_end(reason, self.place())
            return may_end

        response.streaming_content = Chunks(body, tokens, token, ended)

    def _resolve(self) -> Any:
        """Return the `ResolverMatch` of the path, None if no URL pattern matches.

        Only for requests whose token is not cached: the view may be marked, and log lines have its
        route. Django resolves the path again, after other middleware.
        """
        request = self._request
        try:
            return get_resolver(getattr(request, "urlconf", None)).resolve(request.path_info)
        except Resolver404:
            return None
        except Exception as error:  # of a URL converter: the response must not reveal it
            detail = f"a URL converter raised {type(error).__name__}: the request needs a token"
            self.protection.guard.report("url_not_resolved", detail, place=self.place())
            return None


def guarded_request(request: HttpRequest) -> GuardedRequest | None:
    """Return what the middleware stored with a request, None if it has not seen it."""
    guarded = getattr(request, _GUARDED, None)
    return guarded if isinstance(guarded, GuardedRequest) else None


def _forced(request: Any) -> Principal | None:
    """Return the caller that a test has set by REST framework's `force_authenticate`."""
    token = getattr(request, "_force_auth_token", None)
    user = getattr(request, "_force_auth_user", None)
    if token is None and user is None:
        return None
    candidates = (token, user, getattr(user, "principal", None))
    return next((each for each in candidates if isinstance(each, Principal)), ANONYMOUS)


def _may_be_forged(request: Any) -> bool:
    """Whether a browser reports that another site may have caused a request (Fetch Metadata).

    No script has set the Authorization of a navigation or of a no-cors request: a proxy adds it to
    whatever has its cookie. A script of another origin that has the visitor's cookies sent may send
    a token of its own with them, or have a proxy add the visitor's.
    """
    meta = request.META
    if meta.get("HTTP_SEC_FETCH_MODE") in {"navigate", "no-cors"}:
        return True
    if not meta.get("HTTP_COOKIE"):
        return False
    is_other = meta.get("HTTP_SEC_FETCH_SITE") in {"cross-site", "same-site"}
    return is_other and not _is_trusted(meta.get("HTTP_ORIGIN", ""))


def _is_trusted(origin: str) -> bool:
    """Whether an origin is among `CSRF_TRUSTED_ORIGINS`, compared as Django does."""
    scheme, _, host = origin.partition("://")
    trusted = [each.partition("://") for each in django_settings.CSRF_TRUSTED_ORIGINS]
    return any(each == scheme and is_same_domain(host, own.lstrip("*")) for each, _, own in trusted)


def is_async(function: object) -> bool:
    """Whether it is a coroutine function, or is marked as one."""
    # asgiref's marks are its own until Python 3.12.
    return any(
        iscoroutinefunction(each)  # pyright: ignore[reportDeprecated]
        for each in (function, type(function).__call__)
    )


def token_required(view: Any) -> bool:
    """Whether a view is without the mark of `token_not_required`."""
    return getattr(view, TOKEN_REQUIRED, True) is not False


def describe(request: HttpRequest, *, match: Any = None, is_optional: bool = False) -> RequestInfo:
    """Describe a request; `match` is what its path is expected to lead to."""
    meta = request.META
    raw_path: Any = getattr(request, "scope", {}).get("raw_path")
    if raw_path is None:  # the names that WSGI servers have for it
        raw_path = (meta.get("RAW_URI") or meta.get("REQUEST_URI") or "").partition("?")[0]
    match = request.resolver_match or match
    return RequestInfo(
        request.method or "",
        request.path_info,
        raw_path if isinstance(raw_path, str) else raw_path.decode("latin-1"),
        whole_path=request.path,
        has_origin="HTTP_ORIGIN" in meta,
        is_preflight=is_preflight(meta),
        is_optional=is_optional,
        route=f"/{match.route}" if match else "",
        header=partial(header, meta),
    )


def received_request(request: Any) -> ReceivedRequest:
    """Return a request as the sender of a bound token proves it."""
    scope = getattr(request, "scope", None)
    if scope is not None:
        return asgi.received_request(scope)
    return wsgi.received_request(request.META)


def _body(request: Any) -> bytes | None:
    """Return the body, which the view reads again; None if it is longer than Django reads."""
    try:
        body: bytes = request.body
    except RequestDataTooBig:
        return None
    return body


class _Refusal(HttpResponse):  # type: ignore[misc] # Django brings no types
    """A response that is sent with a line for each challenge (RFC 9110 §11.6.1).

    Django keeps one value of each name. A value that middleware has changed is sent as it is.
    """

    challenges: tuple[str, ...] = ()

    def items(self) -> Any:
        """Return the fields as Django's handlers send them."""
        for name, value in super().items():
            if name.lower() == _CHALLENGE and value == ", ".join(self.challenges):
                yield from ((name, each) for each in self.challenges)
            else:
                yield name, value


def response_of(refusal: Response) -> HttpResponse:
    """Return a refusal as a response of Django."""
    response = _Refusal(refusal.body, status=refusal.status)
    del response["Content-Type"]  # Django's own
    _add(response, refusal.headers)
    challenges = (value for name, value in refusal.headers if name.lower() == _CHALLENGE)
    response.challenges = tuple(challenges)
    return response


def _add(response: Any, headers: Any) -> None:
    # Django keeps one value of each name: those of a list are joined (RFC 9110 §5.3).
    for name, value in headers:
        response[name] = f"{response[name]}, {value}" if name in response else value
