"""The authorization endpoint, `GET /oauth/authorize`, and the decision, `POST /oauth/consent`.

The order of the checks matters (OAuth 2.1 §4.1, §7.13.2). The client and the redirect URI come
first: errors in them are shown to the user and never redirected. Then the user signs in. Only then
is anything, errors included, sent to the client. Each such response names the issuer (RFC 9207).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from bearerguard.errors import StoreUnavailable
from bearerguard.protocol import names, pkce, scope
from bearerguard.protocol.jose.thumbprint import is_thumbprint
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.clients import client as clients
from bearerguard.server.clients import redirect_uri
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.metadata_documents import DocumentRefused
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.endpoints.metadata import AUTHORIZE
from bearerguard.server.grants.authorization_code import Approval, AuthorizationCodeGrant
from bearerguard.server.grants.pushed_requests import (
    PushedRequest,
    PushedRequests,
    UnusableRequest,
)
from bearerguard.server.grants.scopes_and_resources import requested_resources, requested_scopes
from bearerguard.server.http.oauth_error import OAuthError, invalid_request, unauthorized_client
from bearerguard.server.http.parameters import Parameters, parse
from bearerguard.server.login.consent import (
    CONSENT,
    ConsentAnswer,
    ConsentForgotten,
    ConsentRequest,
    ScopeLine,
)
from bearerguard.server.login.people import People
from bearerguard.server.login.prompt import MARK, LoginUsed, Prompt, is_silent, unmarked
from bearerguard.server.login.session import SessionEnded, SignedIn
from bearerguard.server.login.steps import LOGIN_STEPS, Demands, Step, next_step, see_other
from bearerguard.server.settings import OFF, Settings
from bearerguard.server.store.connection import Connection

# A link to the login page contains the request, a third longer; common proxies accept URLs of 8 KB.
_MAX_QUERY = 5000
# What a pushed request may contain: the parameters that are read here, and `resource`.
PUSHED = (
    *("response_type", "response_mode", "redirect_uri", "state", "scope", "dpop_jkt"),
    *("code_challenge", "code_challenge_method", "prompt", "max_age", "acr_values"),
)


class InvalidLink(Exception):
    """The client or the redirect URI is invalid: the error must not be redirected (AZ-02).

    `text` names the text of the error page; `cause` is for the log, and has the page's status;
    `client` is the client of the link, if it is known.
    """

    def __init__(
        self,
        text: str,
        reason: str,
        *,
        status: int = 400,
        client: Client | None = None,
        **found: str | None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.client = client
        self.cause: OAuthError = invalid_request("The link does not work", reason, **found)
        self.cause.status = status
        if client is not None:
            self.cause.note(client_id=client.client_id)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the response to a request goes: a client and one of its redirect URIs."""

    query: str = field(repr=False)
    client: Client
    redirect_uri: str
    state: str | None
    parameters: Parameters = field(repr=False)
    pushed: PushedRequest | None = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a valid request asks for."""

    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    challenge: str | None = field(repr=False)
    ignored_scope: str | None = None
    dpop_jkt: str | None = None


class AuthorizationEndpoint:
    """Responds to authorization requests and to the users' decisions."""

    def __init__(
        self,
        *,
        settings: Settings,
        registry: ClientRegistry,
        codes: AuthorizationCodeGrant,
        pushed: PushedRequests,
        people: People,
        audit: Audit,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._codes = codes
        self._pushed = pushed
        self._people = people
        self._audit = audit

    def handle(self, request: Request) -> Response:
        """Return the response to an authorization request."""
        if request.method != "GET":
            return self._people.wrong_method(request, AUTHORIZE, "GET")
        query = urlsplit(request.url).query
        try:
            target = self._target(query)
        except InvalidLink as problem:
            return self._show_error(AUTHORIZE, problem)
        return self._respond(request, self._people.signed_in(request), target)

    def check(self, request: Request, client: Client, parameters: Parameters) -> None:
        """Check a request that a client pushes as one that arrives here; raises `OAuthError`."""
        try:
            _redirect_uri(client, parameters)
        except InvalidLink as problem:
            raise invalid_request(
                "The redirect_uri is missing, or the client did not register it",
                problem.cause.reason,
                **problem.cause.found,
            ) from None
        self._requested(client, parameters)
        self._people.prompts.read(request, parameters, "")

    def _respond(
        self,
        request: Request,
        signed_in: SignedIn | None,
        target: _Target,
        answer: ConsentAnswer | None = None,
    ) -> Response:
        """Return the response that leads to the next step; `answer` is the user's decision."""
        try:
            wanted = self._wanted(target)
            self._check_subject(signed_in)
            if answer is not None and not answer.allowed:
                raise _refused(signed_in)
            prompt = self._prompt(request, target, signed_in)
            step = next_step(
                self._people.prompts,
                prompt,
                signed_in,
                lambda user: self._must_ask(target.client, user, wanted, prompt, answer),
            )
        except OAuthError as error:
            if signed_in is not None or is_silent(target.parameters):
                return self._refuse(target, error)
            # Before the login, nothing is sent to the client, errors included.
            prompt = self._prompt_or_none(request, target)
            return self._ask_to_sign_in(request, target, prompt, None)
        if signed_in is None or step in LOGIN_STEPS:
            return self._ask_to_sign_in(request, target, prompt, signed_in)
        if step is Step.CONSENT:
            return self._ask(request, signed_in, target, wanted)
        if answer is None:
            return self._send_code(
                request, target, signed_in, wanted, prompt=prompt, by_memory=True
            )
        return self._allowed(request, signed_in, target, wanted, prompt=prompt, answer=answer)

    def _prompt(self, request: Request, target: _Target, signed_in: SignedIn | None) -> Prompt:
        """Return what the request demands of the login.

        Raises `OAuthError` if a new login is needed and is impossible.
        """
        prompts = self._people.prompts
        prompt = prompts.unused(prompts.read(request, target.parameters, target.query), signed_in)
        prompts.check(prompt, signed_in)
        return prompt

    def _prompt_or_none(self, request: Request, target: _Target) -> Prompt:
        """Return what the request demands of the login; errors in it are reported after that."""
        try:
            return self._people.prompts.read(request, target.parameters, target.query)
        except OAuthError:
            return Prompt()

    def _ask_to_sign_in(
        self, request: Request, target: _Target, prompt: Prompt, signed_in: SignedIn | None
    ) -> Response:
        if target.pushed is not None:
            self._pushed.keep(target.pushed)
        return self._people.ask_to_sign_in(
            request,
            query=target.query,
            signed_in=signed_in,
            client_name=target.client.name,
            redirect_uri=target.redirect_uri,
            prompt=prompt.sign_in,
            acr_values=self._people.prompts.possible(prompt),
            demands=Demands.of(prompt),
        )

    def decide(self, request: Request) -> Response:
        """Return the response to the form of a consent page."""
        if request.method != "POST":
            return self._people.wrong_method(request, CONSENT, "POST")
        signed_in = self._people.signed_in(request)
        if signed_in is None:
            return self._people.signed_out(CONSENT)
        answer = self._people.consent_answer(request, signed_in)
        if isinstance(answer, Response):
            return answer
        try:
            target = self._target(answer.query)
        except InvalidLink as problem:  # the client was changed or removed in between
            return self._show_error(CONSENT, problem)
        return self._respond(request, signed_in, target, answer)

    def _allowed(
        self,
        request: Request,
        signed_in: SignedIn,
        target: _Target,
        wanted: _Wanted,
        *,
        prompt: Prompt,
        answer: ConsentAnswer,
    ) -> Response:
        remembered = answer.remember and self._is_rememberable(target.client, wanted)
        self._audit.emit(
            "consent_given",
            client_id=target.client.client_id,
            user_id=signed_in.user_id,
            scope=scope.build(wanted.scopes),
            remembered=remembered,
        )
        if not remembered:
            return self._send_code(request, target, signed_in, wanted, prompt=prompt)

        def remember(connection: Connection) -> None:
            self._people.remember(
                connection,
                signed_in.user_id,
                target.client.client_id,
                answer.scopes,
                wanted.resources,
            )

        return self._send_code(request, target, signed_in, wanted, prompt=prompt, remember=remember)

    def _target(self, query: str) -> _Target:
        """Return the client and its redirect URI; raises `InvalidLink`."""
        if len(unmarked(query)) > _MAX_QUERY:
            raise InvalidLink("length", "too_large")
        if not (query.isascii() and query.isprintable()):
            # The query becomes part of a Location header; some servers accept such octets.
            raise InvalidLink("malformed", "malformed_encoding")
        try:
            parameters = parse(query.encode())
        except OAuthError as error:
            raise InvalidLink("malformed", error.reason) from None
        client = self._client(parameters)
        pushed = None
        request_uri = parameters.get("request_uri")
        if request_uri is not None and request_uri.startswith(names.REQUEST_URI):
            pushed, parameters = self._pushed_by(client, parameters, request_uri)
        uri = _redirect_uri(client, parameters)
        return _Target(query, client, uri, parameters.get("state"), parameters, pushed)

    def _pushed_by(
        self, client: Client, parameters: Parameters, request_uri: str
    ) -> tuple[PushedRequest, Parameters]:
        """Return the request that a client has pushed, and its parameters.

        Of the parameters beside `request_uri` none counts (RFC 9101 §6.3) but our own mark.
        """
        if "request_uri" in parameters.repeated:
            raise InvalidLink(
                "malformed", "repeated_parameter", parameter="request_uri", client=client
            )
        try:
            pushed = self._pushed.find(client.client_id, request_uri)
        except UnusableRequest as error:
            raise InvalidLink("pushed", error.reason, client=client) from None
        found, mark = parse(pushed.query.encode()), parameters.get(MARK)
        own = {} if mark is None else {MARK: mark}
        return pushed, replace(found, values={**found.values, **own})

    def _client(self, parameters: Parameters) -> Client:
        client_id = parameters.get("client_id")
        if client_id is None:
            raise InvalidLink("no_app", "missing_parameter", parameter="client_id")
        if "client_id" in parameters.repeated:
            raise InvalidLink("no_app", "repeated_parameter", parameter="client_id")
        try:
            client = self._registry.resolve(client_id)
        except DocumentRefused as error:
            raise InvalidLink(
                "app_unavailable" if error.temporary else "app_document",
                error.reason,
                status=503 if error.temporary else 400,
                client_id=client_id,
                detail=str(error),
            ) from error
        if client is None:
            raise InvalidLink("unknown_app", "unknown_client", client_id=client_id)
        return client

    def _wanted(self, target: _Target) -> _Wanted:
        """Return what is asked for; raises `OAuthError`, which the client gets."""
        wanted = self._requested(target.client, target.parameters)
        must_push = (
            self._settings.require_par or target.client.require_pushed_authorization_requests
        )
        if must_push and target.pushed is None:
            raise invalid_request(
                "The client must push its authorization requests (RFC 9126)", "request_not_pushed"
            )
        return wanted

    def _requested(self, client: Client, parameters: Parameters) -> _Wanted:
        parameters.check()
        response_type = parameters.required("response_type")
        if "request" in parameters.values or "request_uri" in parameters.values:
            raise OAuthError("request_not_supported", "Request objects are not supported")
        if response_type != "code":
            raise OAuthError(
                names.UNSUPPORTED_RESPONSE_TYPE,
                "The server supports response_type=code only",
                response_type=response_type,
            )
        if names.AUTHORIZATION_CODE not in client.grant_types:
            raise unauthorized_client(
                "The client is not registered for this grant type",
                "grant_type_not_registered",
                grant_type=names.AUTHORIZATION_CODE,
            )
        response_mode = parameters.get("response_mode")
        if response_mode not in {None, "query"}:
            raise invalid_request(
                "The server supports response_mode=query only",
                "unsupported_response_mode",
                response_mode=response_mode,
            )
        scopes = requested_scopes(parameters, client.scopes, self._settings)
        return _Wanted(
            scopes.granted,
            requested_resources(parameters, self._settings),
            _challenge(client, parameters),
            scopes.left_out,
            self._key(parameters),
        )

    def _key(self, parameters: Parameters) -> str | None:
        """Return the key that the code is bound to, None for any; raises `OAuthError`."""
        thumbprint = parameters.get("dpop_jkt")
        if thumbprint is None or self._settings.dpop == OFF:
            return None
        if not is_thumbprint(thumbprint):
            raise invalid_request(
                "dpop_jkt is no SHA-256 thumbprint of a key (RFC 9449 section 10)",
                "malformed_dpop_jkt",
            )
        return thumbprint

    def _check_subject(self, signed_in: SignedIn | None) -> None:
        # The subject of a client's own tokens is its id: no user may have the same id.
        if signed_in is not None and self._registry.find(signed_in.user_id) is not None:
            raise OAuthError(
                names.SERVER_ERROR,
                "The user cannot be named",
                reason="user_has_a_clients_id",
                user_id=signed_in.user_id,
            )

    def _must_ask(
        self,
        client: Client,
        signed_in: SignedIn,
        wanted: _Wanted,
        prompt: Prompt,
        answer: ConsentAnswer | None,
    ) -> bool:
        """Whether to ask for consent; raises `OAuthError` if it is needed but prompt=none."""
        if answer is not None:
            # The client may have more scopes now than the page showed, or the default resource
            # has changed.
            return not (
                answer.scopes.issuperset(wanted.scopes)
                and answer.resources.issuperset(wanted.resources)
            )
        needed = self._is_consent_missing(client, signed_in, wanted)
        if needed and prompt.silent:
            raise OAuthError("consent_required", "The user has not given consent")
        return needed or prompt.consent

    def _is_consent_missing(
        self,
        client: Client,
        signed_in: SignedIn,
        wanted: _Wanted,
        connection: Connection | None = None,
    ) -> bool:
        if not client.is_identified:
            return True  # anybody can pose as it (RFC 8252 §8.6)
        if not client.require_consent:
            return False
        known = self._people.remembered(
            signed_in.user_id, client.client_id, wanted.resources, connection
        )
        return not wanted.scopes or not set(wanted.scopes) <= known

    def _is_default(self, wanted: _Wanted) -> bool:
        return wanted.resources == (self._settings.resources[0].identifier,)

    def _is_rememberable(self, client: Client, wanted: _Wanted) -> bool:
        return client.is_identified and bool(wanted.scopes)

    def _ask(
        self, request: Request, signed_in: SignedIn, target: _Target, wanted: _Wanted
    ) -> Response:
        settings = self._settings
        known = self._known_scopes(signed_in, target.client, wanted)
        if target.pushed is not None:
            self._pushed.keep(target.pushed)
        return self._people.ask_consent(
            request,
            signed_in,
            ConsentRequest(
                client_id=target.client.client_id,
                client_name=target.client.name,
                scopes=tuple(
                    ScopeLine(
                        name, settings.describe(name), settings.is_powerful(name), name in known
                    )
                    for name in wanted.scopes
                ),
                redirect_uri=target.redirect_uri,
                query=target.query,
                resources=wanted.resources,
                names_resources=not self._is_default(wanted),
                rememberable=self._is_rememberable(target.client, wanted),
                published_at=_published_at(target.client),
                is_unknown=target.client.registered_by == clients.BY_REQUEST,
                is_local=redirect_uri.are_local(target.client.redirect_uris),
                demands=Demands.of(self._prompt_or_none(request, target)),
            ),
        )

    def _known_scopes(self, signed_in: SignedIn, client: Client, wanted: _Wanted) -> frozenset[str]:
        """Return the scopes that the client has from the user, by consent or by a grant."""
        user_id, client_id = signed_in.user_id, client.client_id
        remembered = self._people.remembered(user_id, client_id, wanted.resources)
        return remembered | self._codes.granted_scopes(user_id, client_id, wanted.resources)

    def _send_code(
        self,
        request: Request,
        target: _Target,
        signed_in: SignedIn,
        wanted: _Wanted,
        *,
        prompt: Prompt,
        remember: Callable[[Connection], object] | None = None,
        by_memory: bool = False,
    ) -> Response:
        """Return a code to the client; `by_memory`: the user was not asked for consent now."""

        def use(connection: Connection) -> None:
            self._people.check_session(connection, signed_in)
            if by_memory and self._is_consent_missing(target.client, signed_in, wanted, connection):
                raise ConsentForgotten("the user has ended the client's access")
            self._people.prompts.use(connection, prompt, signed_in)
            if target.pushed is not None:
                self._pushed.use(connection, target.pushed)

        approval = Approval(
            user_id=signed_in.user_id,
            auth_time=signed_in.auth_time,
            acr=signed_in.acr,
            redirect_uri=target.redirect_uri,
            challenge=wanted.challenge,
            scopes=wanted.scopes,
            resources=wanted.resources,
            ignored_scope=wanted.ignored_scope,
            dpop_jkt=wanted.dpop_jkt,
            amr=signed_in.amr,
            upstream=signed_in.upstream,
            upstream_sid=signed_in.upstream_sid,
        )
        try:
            code = self._codes.issue(target.client, approval, use, remember)
        except (SessionEnded, ConsentForgotten):  # since this request has found it
            return self._respond(request, self._people.signed_in(request), target)
        except LoginUsed:  # by another request, since this one was checked
            return self._ask_to_sign_in(request, target, prompt, signed_in)
        except UnusableRequest as error:
            return self._show_used(target, error)
        except OAuthError as error:
            return self._refuse(target, error)
        except StoreUnavailable as error:
            # The client gets the error, and can try again (RFC 6749 §4.1.2.1).
            self._audit.emit("store_unavailable", cause=str(error))
            unavailable = OAuthError(names.TEMPORARILY_UNAVAILABLE, "Try again later")
            return self._return_error(target, unavailable)
        return self._return(target, [("code", code)])

    def _report(self, endpoint: str, error: OAuthError) -> None:
        error.report(self._audit, self._settings.base_path + endpoint)

    def _show_error(self, endpoint: str, problem: InvalidLink) -> Response:
        client = problem.client
        host = "" if client is None else _home(client)
        return self._people.errors.show(
            problem.cause,
            endpoint,
            "link",
            problem.text,
            client_name="" if client is None else client.name,
            back=self._people.link_back(host) if host else None,
        )

    def _show_used(self, target: _Target, error: UnusableRequest) -> Response:
        return self._show_error(
            AUTHORIZE, InvalidLink("pushed", error.reason, client=target.client)
        )

    def _refuse(self, target: _Target, error: OAuthError) -> Response:
        if target.pushed is not None:
            try:
                self._pushed.end(target.pushed)
            except UnusableRequest as used:  # by another response, since this one was checked
                return self._show_used(target, used)
        return self._return_error(target, error)

    def _return_error(self, target: _Target, error: OAuthError) -> Response:
        error.note(client_id=target.client.client_id)
        self._report(AUTHORIZE, error)
        parameters = [("error", error.error), ("error_description", error.description)]
        return self._return(target, parameters)

    def _return(self, target: _Target, parameters: list[tuple[str, str]]) -> Response:
        if target.state is not None:
            parameters = [*parameters, ("state", target.state)]
        parameters = [*parameters, ("iss", self._settings.issuer)]
        # 303: the browser does not repeat the POST at the client (OAuth 2.1 §7.5.3).
        return see_other(redirect_uri.with_parameters(target.redirect_uri, parameters))


def _refused(signed_in: SignedIn | None) -> OAuthError:
    refused = OAuthError(names.ACCESS_DENIED, "The user refused", event="consent_refused")
    refused.note(user_id=signed_in.user_id if signed_in else None)
    return refused


def _home(client: Client) -> str:
    """Return the host of a client's own site, as far as it is verified; else "".

    It is the host of its document, or of a redirect URI that an operator registered. A client that
    registered itself could make our pages lead anywhere.
    """
    if client.registered_by == clients.BY_DOCUMENT:
        return _published_at(client)
    if client.registered_by == clients.BY_REQUEST:
        return ""
    parts = (urlsplit(each) for each in client.redirect_uris)
    return next((each.netloc.lower() for each in parts if each.scheme == "https"), "")


def _published_at(client: Client) -> str:
    """Return the host of a client's metadata document, or ""."""
    is_described = client.registered_by == clients.BY_DOCUMENT
    return urlsplit(client.client_id).netloc.lower() if is_described else ""


def _redirect_uri(client: Client, parameters: Parameters) -> str:
    """Return the redirect URI of a request; raises `InvalidLink`."""
    uri = parameters.get("redirect_uri")
    if "redirect_uri" in parameters.repeated:
        raise InvalidLink(
            "two_returns", "repeated_parameter", parameter="redirect_uri", client=client
        )
    if uri is None:
        if len(client.redirect_uris) != 1:
            raise InvalidLink(
                "no_return", "missing_parameter", parameter="redirect_uri", client=client
            )
        return client.redirect_uris[0]
    if not redirect_uri.matches(uri, client.redirect_uris):
        raise InvalidLink(
            "wrong_return", "unregistered_redirect_uri", redirect_uri=uri, client=client
        )
    return uri


def _challenge(client: Client, parameters: Parameters) -> str | None:
    challenge, method = parameters.get("code_challenge"), parameters.get("code_challenge_method")
    if challenge is None:
        if method is not None or client.require_pkce:
            raise invalid_request(
                "PKCE is required: send code_challenge (RFC 7636)", "missing_code_challenge"
            )
        return None
    if method != pkce.METHOD:
        raise invalid_request(
            "code_challenge_method must be S256",
            "unsupported_code_challenge_method",
            code_challenge_method=method or "none, which means plain",
        )
    if not pkce.is_challenge(challenge):
        raise invalid_request("code_challenge is malformed", "malformed_code_challenge")
    return challenge
