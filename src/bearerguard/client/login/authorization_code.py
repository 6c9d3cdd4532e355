"""The authorization code grant with PKCE, in a browser.

RFC 6749 §4.1 with RFC 7636, RFC 8252 §7.3, RFC 9126 and RFC 9207.
"""

from __future__ import annotations

import hmac
import secrets
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Unpack
from urllib.parse import urlencode

from bearerguard.client.dpop import Proofs
from bearerguard.client.login import receivers
from bearerguard.client.login.interactive import InteractiveSource
from bearerguard.client.login.receivers import Receiver
from bearerguard.client.sources.grant import LoginOptions
from bearerguard.client.token import Token
from bearerguard.errors import (
    ConfigurationError,
    DiscoveryError,
    LoginFailed,
    LoginRequired,
    TokenRefused,
    quoted,
)
from bearerguard.protocol import names, pkce, token_endpoint
from bearerguard.runtime.effects import Blocking
from bearerguard.runtime.flow import Flow, ask

# How long a person may take.
LOGIN_SECONDS = 300.0


class AuthorizationCode(InteractiveSource):
    """Tokens that a person authorizes in a browser, always with PKCE by S256 (RFC 6749 §4.1).

    Args:
        issuer: the authorization server's identifier.
        client_id: the client's identifier.
        open_browser: shows a URL to the person; returns False when it cannot.
        redirect_uri: the registered redirect URI, for servers that compare all of it: a loopback
            URI with its port (`http://localhost:8765/callback`), or one with a private-use scheme
            (`cursor://...`) or https, where the person pastes the address that the browser was
            sent to; by default 127.0.0.1 with any free port.
        receiver: makes the receiver of the response, for an app that receives it itself.
        timeout: the seconds that the person may take.
        assume_pkce: the server supports PKCE, although its metadata does not state it.
        push: push the authorization request to the server, which the browser then gets no more of
            than a reference (RFC 9126); by default, if the server's metadata demands it.
        options: those of `LoginOptions` (`scopes=`, `resources=`, `dpop=`, `parameters=` for the
            authorization request, such as Google's `access_type`; `token_parameters=`) and of
            `EndpointOptions` (`client_secret=`, …).

    Raises:
        ConfigurationError: an option is missing, unknown or unsafe.
    """

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        open_browser: Callable[[str], object] = webbrowser.open,
        redirect_uri: str | None = None,
        receiver: Callable[[], AbstractContextManager[Receiver]] | None = None,
        timeout: float = LOGIN_SECONDS,
        assume_pkce: bool = False,
        push: bool = False,
        **options: Unpack[LoginOptions],
    ) -> None:
        super().__init__(issuer, names.AUTHORIZATION_CODE, client_id=client_id, **options)
        self._open_browser = open_browser
        self._receiver = _receiver(receiver, redirect_uri)
        self._timeout = timeout
        self._assume_pkce = assume_pkce
        given: object = push
        if not isinstance(given, bool):
            raise ConfigurationError("push=: pass True or False")
        self._push = push

    def login(self, previous: Token | None) -> Flow[Token]:
        """Send the person to the server, and exchange the returned code (RFC 6749 §4.1.3)."""
        grant, server = self._grant, self._grant.server
        document = yield from server.metadata()
        self._demand_pkce(document)
        address = yield from server.endpoint("authorization_endpoint")
        verifier = secrets.token_urlsafe(48)
        proofs = grant.proofs(previous)
        with self._receiver() as receiver:
            query = [
                ("response_type", "code"),
                ("client_id", server.client_id),
                ("redirect_uri", receiver.redirect_uri),
                ("state", receiver.state),
                ("code_challenge", pkce.challenge(verifier)),
                ("code_challenge_method", pkce.METHOD),
                *((("dpop_jkt", proofs.thumbprint),) if proofs else ()),
                *token_endpoint.scope_and_resource(grant.scopes, grant.resources),
                *grant.parameters,
            ]
            if self._push or document.get("require_pushed_authorization_requests") is True:
                query = yield from self._pushed(query, proofs)
            url = address + ("&" if "?" in address else "?") + urlencode(query)
            opened = yield from ask(Blocking(lambda: self._open_browser(url)))
            if opened is False:
                raise LoginFailed(
                    "no browser could be opened here: show the URL otherwise by open_browser=,"
                    " or log in by DeviceCode"
                )
            response = yield from ask(Blocking(lambda: receiver.wait(self._timeout)))
            fields = [
                ("grant_type", names.AUTHORIZATION_CODE),
                ("code", self._code(response, receiver.state, document)),
                ("redirect_uri", receiver.redirect_uri),
                ("code_verifier", verifier),
            ]
        return (yield from grant.ask(fields, previous, proofs=proofs))

    def _pushed(
        self, query: list[tuple[str, str]], proofs: Proofs | None
    ) -> Flow[list[tuple[str, str]]]:
        """Push a request; return the parameters of the link to it (RFC 9126 §2, §4)."""
        server = self._grant.server
        url = yield from server.endpoint("pushed_authorization_request_endpoint")
        answer = yield from server.post(url, query, proofs)
        request_uri = token_endpoint.members(answer).get("request_uri")
        if not isinstance(request_uri, str) or not request_uri:
            raise TokenRefused(
                token_endpoint.INVALID_RESPONSE,
                "the server's response to the pushed request has no request_uri",
            )
        return [("client_id", server.client_id), ("request_uri", request_uri)]

    def _demand_pkce(self, document: Mapping[str, Any]) -> None:
        """Refuse a server whose metadata does not state PKCE support: it may ignore PKCE."""
        methods = document.get("code_challenge_methods_supported")
        if methods is None and self._assume_pkce:
            return
        if not isinstance(methods, list) or pkce.METHOD not in methods:
            raise DiscoveryError(
                f"{self._grant.server.name} does not say that it supports PKCE by S256: if it does,"
                " pass assume_pkce=True"
            )

    def _code(self, response: Mapping[str, str], state: str, document: Mapping[str, Any]) -> str:
        """Return the code of a response, checked to belong to this request (RFC 9207 §2.4)."""
        if not hmac.compare_digest(response.get("state", "").encode(), state.encode()):
            raise TokenRefused(
                "invalid_response", "the response is to another login: its state differs"
            )
        issuer = response.get("iss")
        if issuer is None:
            if document.get("authorization_response_iss_parameter_supported") is True:
                raise TokenRefused("invalid_response", "the response does not name its issuer")
        elif issuer != self._grant.server.issuer:
            raise TokenRefused("invalid_response", f"the response is from {quoted(issuer)}")
        error = response.get("error")
        if error is not None:
            description = quoted(response.get("error_description", "without a reason"))
            cause = f"the login was refused: {description}"
            if error in token_endpoint.INTERACTION_REQUIRED:
                raise LoginRequired(cause, error)
            raise TokenRefused(error, cause)
        code = response.get("code")
        if not code:
            raise TokenRefused("invalid_response", "the response holds no code")
        return code


def _receiver(
    given: Callable[[], AbstractContextManager[Receiver]] | None, redirect_uri: str | None
) -> Callable[[], AbstractContextManager[Receiver]]:
    if redirect_uri is None:
        return given or receivers.loopback
    if given is not None:
        raise ConfigurationError("redirect_uri=, receiver=: pass one of them")
    address = receivers.checked_redirect_uri(redirect_uri)
    return lambda: receivers.receiver(address)
