"""The grants that ask a person: authorization code with PKCE, and the device grant.

RFC 6749 §4.1 with RFC 7636, RFC 8252 §7.3 and RFC 9207; RFC 8628. Between logins both refresh;
only `login` asks anybody, never a request to an API.
"""

from __future__ import annotations

import hmac
import secrets
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlencode

from bearerguard.client.login.device import DevicePrompt, granted, print_prompt, prompted
from bearerguard.client.sources.authorization_server import AuthorizationServer
from bearerguard.client.sources.grants import Grant, GrantSource, further
from bearerguard.client.sources.token_source import Demand, TokenSource, texts
from bearerguard.client.token import Token
from bearerguard.errors import (
    ConfigurationError,
    DiscoveryError,
    LoginFailed,
    LoginRequired,
    TokenRefused,
    quoted,
)
from bearerguard.protocol import pkce, token_endpoint
from bearerguard.runtime.flow import Blocking, Flow, ask

# How long a person may take.
_LOGIN_SECONDS = 300.0
_DENIED = "access_denied"


class Receiver(Protocol):
    """Where the browser is sent back to.

    Attributes:
        redirect_uri: its address.
        state: what the answer must repeat.
    """

    @property
    def redirect_uri(self) -> str: ...  # noqa: D102 - an attribute

    @property
    def state(self) -> str: ...  # noqa: D102 - likewise

    def wait(self, timeout: float) -> Mapping[str, str]:
        """Return the query parameters that the browser brought."""
        ...


def loopback() -> AbstractContextManager[Receiver]:
    """Return a receiver on a free port of this machine (RFC 8252 §7.3)."""
    from bearerguard.client.login.loopback import LoopbackReceiver  # noqa: PLC0415 - for logins only

    return LoopbackReceiver()


def _receiver(
    given: Callable[[], AbstractContextManager[Receiver]] | None, redirect_uri: str | None
) -> Callable[[], AbstractContextManager[Receiver]]:
    if redirect_uri is None:
        return given or loopback
    if given is not None:
        raise ConfigurationError("redirect_uri=, receiver=: pass one of them")
    from bearerguard.client.login import redirects  # noqa: PLC0415 - for logins only

    address = redirects.checked(redirect_uri)
    return lambda: redirects.receiver(address)


class _Refreshing(GrantSource):
    """A source that refreshes, and asks a person when it is told to."""

    _acr_values: tuple[str, ...] = ()
    _max_age: int | None = None

    def __init__(
        self,
        server: AuthorizationServer,
        kind: str,
        *,
        scope: str | list[str] | tuple[str, ...],
        resource: str | list[str] | tuple[str, ...],
        dpop: bool,
        parameters: Mapping[str, str] | None,
        token_parameters: Mapping[str, str] | None,
    ) -> None:
        super().__init__(
            Grant(
                server,
                kind,
                texts("scope", scope),
                texts("resource", resource),
                dpop=dpop,
                parameters=further("parameters", parameters),
                token_parameters=further("token_parameters", token_parameters),
            )
        )

    def token(self, previous: Token | None) -> Flow[Token]:
        """Refresh; raises `LoginRequired` where only a person can help."""
        if previous is None:
            raise LoginRequired("nobody has logged in yet")
        return (yield from self._grant.refreshed(previous))

    def widened(self, demand: Demand) -> TokenSource:
        """Return a source whose login asks for more scope, or a stronger or newer login."""
        source = self._widened(replace(self._grant, scope=self._grant.union(demand.scope)))
        source._acr_values, source._max_age = demand.acr_values, demand.max_age  # noqa: SLF001
        return source  # type: ignore[no-any-return]

    def _more(self) -> list[tuple[str, str]]:
        """Return the further parameters, and what an API demands of the login above those."""
        more = dict(self._grant.parameters)
        if self._acr_values:
            more["acr_values"] = " ".join(self._acr_values)
        if self._max_age is not None:
            more["max_age"] = str(self._max_age)
        return list(more.items())


class AuthorizationCode(_Refreshing):
    """Tokens that a person allows in a browser (RFC 6749 §4.1), always with PKCE by S256.

    Args:
        issuer: the authorization server's identifier.
        client_id: who asks.
        scope: what to ask for, as a list or as one string with spaces.
        resource: the API that the tokens are for (RFC 8707).
        dpop: bind the tokens to a key (RFC 9449).
        parameters: what the server demands in the authorization request besides, such as
            Google's `access_type` or Auth0's `audience`.
        token_parameters: what it demands in token requests besides.
        open_browser: shows a URL to the person; returns False when it cannot.
        redirect_uri: where the browser is sent back to, for servers that compare all of it: of
            this machine with its port (`http://localhost:8765/callback`), or of an app's own
            scheme (`cursor://...`) or https, where the person pastes the address that the browser
            was sent to; any free port of 127.0.0.1 by default.
        receiver: makes what the browser is sent back to, for an app that receives it by itself.
        timeout: the seconds that the person may take.
        assume_pkce: the server does PKCE, although its metadata does not say so.
        options: how the client authenticates, and more: those of `AuthorizationServer`.
    """

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        scope: str | list[str] | tuple[str, ...] = (),
        resource: str | list[str] | tuple[str, ...] = (),
        dpop: bool = False,
        parameters: Mapping[str, str] | None = None,
        token_parameters: Mapping[str, str] | None = None,
        open_browser: Callable[[str], object] = webbrowser.open,
        redirect_uri: str | None = None,
        receiver: Callable[[], AbstractContextManager[Receiver]] | None = None,
        timeout: float = _LOGIN_SECONDS,
        assume_pkce: bool = False,
        **options: Any,
    ) -> None:
        server = AuthorizationServer(issuer, client_id=client_id, **options)
        super().__init__(
            server,
            "authorization_code",
            scope=scope,
            resource=resource,
            dpop=dpop,
            parameters=parameters,
            token_parameters=token_parameters,
        )
        self._open_browser = open_browser
        self._receiver = _receiver(receiver, redirect_uri)
        self._timeout = timeout
        self._assume_pkce = assume_pkce

    def login(self, previous: Token | None) -> Flow[Token]:
        """Send the person to the server, and redeem the code that comes back."""
        grant, server = self._grant, self._grant.server
        document = yield from server.metadata()
        self._demand_pkce(document)
        address = yield from server.endpoint("authorization_endpoint")
        verifier = secrets.token_urlsafe(48)
        with self._receiver() as receiver:
            query = [
                ("response_type", "code"),
                ("client_id", server.client_id),
                ("redirect_uri", receiver.redirect_uri),
                ("state", receiver.state),
                ("code_challenge", pkce.challenge(verifier)),
                ("code_challenge_method", pkce.METHOD),
                *token_endpoint.scope_and_resource(grant.scope, grant.resources),
                *self._more(),
            ]
            url = address + ("&" if "?" in address else "?") + urlencode(query)
            opened = yield from ask(Blocking(lambda: self._open_browser(url)))
            if opened is False:
                raise LoginFailed(
                    "no browser could be opened here: show the URL otherwise by open_browser=,"
                    " or log in by DeviceCode"
                )
            answer = yield from ask(Blocking(lambda: receiver.wait(self._timeout)))
            fields = [
                ("grant_type", "authorization_code"),
                ("code", self._code(answer, receiver.state, document)),
                ("redirect_uri", receiver.redirect_uri),
                ("code_verifier", verifier),
            ]
        return (yield from grant.ask(fields, previous, refreshing=False))

    def _demand_pkce(self, document: Mapping[str, Any]) -> None:
        """Refuse a server that does not say that it does PKCE: it may ignore it."""
        methods = document.get("code_challenge_methods_supported")
        if methods is None and self._assume_pkce:
            return
        if not isinstance(methods, list) or pkce.METHOD not in methods:
            raise DiscoveryError(
                f"{self._grant.server.name} does not say that it does PKCE by S256: if it does,"
                " pass assume_pkce=True"
            )

    def _code(self, answer: Mapping[str, str], state: str, document: Mapping[str, Any]) -> str:
        """Return the code of the answer to this request, and of no other (RFC 9207 §2.4)."""
        if not hmac.compare_digest(answer.get("state", "").encode(), state.encode()):
            raise TokenRefused("invalid_response", "the answer is to another login: state differs")
        issuer = answer.get("iss")
        if issuer is None:
            if document.get("authorization_response_iss_parameter_supported") is True:
                raise TokenRefused("invalid_response", "the answer does not name its issuer")
        elif issuer != self._grant.server.issuer:
            raise TokenRefused("invalid_response", f"the answer is from {quoted(issuer)}")
        error = answer.get("error")
        if error is not None:
            description = quoted(answer.get("error_description", "without a reason"))
            said = f"the login was refused: {description}"
            if error in token_endpoint.INTERACTION_REQUIRED:
                raise LoginRequired(said, error)
            raise TokenRefused(error, said)
        code = answer.get("code")
        if not code:
            raise TokenRefused("invalid_response", "the answer holds no code")
        return code


class DeviceCode(_Refreshing):
    """Tokens that a person allows on another device (RFC 8628).

    Args:
        issuer: the authorization server's identifier.
        client_id: who asks.
        scope: what to ask for, as a list or as one string with spaces.
        resource: the API that the tokens are for (RFC 8707).
        dpop: bind the tokens to a key (RFC 9449).
        parameters: what the server demands in the device authorization request besides.
        token_parameters: what it demands in token requests besides.
        prompt: shows the code and the address to the person; prints them by default.
        options: how the client authenticates, and more: those of `AuthorizationServer`.
    """

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        scope: str | list[str] | tuple[str, ...] = (),
        resource: str | list[str] | tuple[str, ...] = (),
        dpop: bool = False,
        parameters: Mapping[str, str] | None = None,
        token_parameters: Mapping[str, str] | None = None,
        prompt: Callable[[DevicePrompt], object] = print_prompt,
        **options: Any,
    ) -> None:
        server = AuthorizationServer(issuer, client_id=client_id, **options)
        super().__init__(
            server,
            "device_code",
            scope=scope,
            resource=resource,
            dpop=dpop,
            parameters=parameters,
            token_parameters=token_parameters,
        )
        self._prompt = prompt

    def login(self, previous: Token | None) -> Flow[Token]:
        """Show a code, and ask until the person has entered it."""
        audience = token_endpoint.scope_and_resource(self._grant.scope, self._grant.resources)
        prompt = yield from prompted(self._grant.server, [*audience, *self._more()])
        yield from ask(Blocking(lambda: self._prompt(prompt)))
        return (yield from granted(self._grant, prompt, previous))
