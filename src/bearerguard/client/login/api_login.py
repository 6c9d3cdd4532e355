"""A login that starts from nothing but an API's URL, such as that of an MCP server.

The API names its authorization server (RFC 9728), the app registers there if it has to, and a
person logs in with the authorization code grant. Tokens and registrations are bound to the issuer
that issued them: when the API names another one, the app registers and logs in there anew.
"""

from __future__ import annotations

import copy
import time
import webbrowser
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import Any, Self

from bearerguard.client import discovery
from bearerguard.client.discovery import Discovered
from bearerguard.client.login import receivers
from bearerguard.client.login.authorization_code import LOGIN_SECONDS, AuthorizationCode
from bearerguard.client.login.receivers import Receiver
from bearerguard.client.registration import ClientRegistration, RegisteredClient, Registrations
from bearerguard.client.sources.grant import Names, named
from bearerguard.client.sources.token_source import Demand
from bearerguard.client.storages.storage import Storage
from bearerguard.client.token import Token
from bearerguard.errors import ConfigurationError, LoginFailed, LoginRequired, TokenRefused
from bearerguard.protocol import names
from bearerguard.runtime.flow import Flow

_NOBODY = "nobody has logged in yet"


class ApiLogin:
    """Tokens for an API of which only the URL is known (RFC 9728, RFC 7591).

    Args:
        url: the URL of the API.
        app: how the app introduces itself to a server that does not know it.
        storage: keeps the registrations; that of the tokens may be the same.
        scopes: the scopes to request; by default those that the API names. At a server that
            supports it, `offline_access` is added, for a refresh token.
        dpop: bind the tokens to a key (RFC 9449).
        open_browser: shows a URL to the person; returns False when it cannot.
        redirect_uri: one redirect URI of the app, as `AuthorizationCode` has it; by default
            127.0.0.1 with any free port, which is registered with its port.
        timeout: the seconds that the person may take.
        parameters: further parameters of the authorization request.
        clock: returns Unix seconds.

    Raises:
        ConfigurationError: an option is malformed or unsafe.
    """

    def __init__(
        self,
        url: str,
        *,
        app: ClientRegistration,
        storage: Storage,
        scopes: Names = (),
        dpop: bool = False,
        open_browser: Callable[[str], object] = webbrowser.open,
        redirect_uri: str | None = None,
        timeout: float = LOGIN_SECONDS,
        parameters: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(app, ClientRegistration):
            raise ConfigurationError("app=: pass a ClientRegistration")
        self._url = discovery.secure_url("url", url)
        self.key: str = f"api {url}" + (" DPoP" if dpop else "")
        self.resources: tuple[str, ...] = (url,)
        self._registrations = Registrations(app, storage)
        self._redirect_uri = (
            None if redirect_uri is None else receivers.checked_redirect_uri(redirect_uri)
        )
        self._scopes = named("scopes", scopes)
        self._demanded: tuple[str, ...] = ()
        self._challenges: tuple[str, ...] | None = None
        self._dpop = dpop
        self._open_browser = open_browser
        self._timeout = timeout
        self._parameters = dict(parameters or {})
        self._clock = clock

    def __repr__(self) -> str:
        return f"ApiLogin({self._url!r})"

    def token(self, previous: Token | None) -> Flow[Token]:
        """Refresh at the server that issued `previous`; raises `LoginRequired` without one."""
        if previous is None or previous.issuer is None:
            raise LoginRequired(_NOBODY)
        client = yield from self._client_of(previous.issuer)
        source = self._source(client, previous.resource)
        try:
            token = yield from source.token(previous)
        except TokenRefused as refused:
            if refused.error != names.INVALID_CLIENT:
                raise
            yield from self._registrations.forget(previous.issuer)
            raise LoginRequired(f"{previous.issuer} no longer knows this app") from refused
        return replace(token, issuer=previous.issuer, resource=previous.resource)

    def login(self, previous: Token | None) -> Flow[Token]:
        """Find the API's server, register there if need be, and have a person log in."""
        found = yield from discovery.discovered(self._url, self._challenges)
        kept = yield from self._registrations.known(found.issuer, self._clock())
        same = previous if previous is not None and previous.issuer == found.issuer else None
        with ExitStack() as held:
            client, receiver = yield from self._registered(found, kept, held)
            scopes = self._wanted(found, same)
            source = self._source(client, found.resource, scopes, found.metadata, receiver)
            try:
                token = yield from source.login(same)
            except (LoginFailed, TokenRefused) as error:
                # A server that has removed the registration shows an error page, or refuses.
                lost = isinstance(error, LoginFailed) or error.error == names.INVALID_CLIENT
                if kept is not None and lost:
                    yield from self._registrations.forget(found.issuer)
                raise
        return replace(token, issuer=found.issuer, resource=found.resource)

    def challenged(self, challenges: Iterable[str]) -> Self:
        """Return a source that starts from the `WWW-Authenticate` lines of a refusal."""
        source = copy.copy(self)
        source._challenges = tuple(challenges)  # noqa: SLF001 - of a copy of its own
        return source

    def widened(self, demand: Demand) -> Self:
        """Return a source whose login requests more scopes, or a stronger or newer login."""
        source = copy.copy(self)
        source._demanded = tuple(dict.fromkeys((*self._demanded, *demand.scopes)))  # noqa: SLF001 - of a copy of its own
        source._parameters = {**self._parameters, **demand.parameters()}  # noqa: SLF001 - of a copy of its own
        return source

    def revoke(self, token: Token) -> Flow[bool]:
        """Revoke the refresh token, or else the access token (RFC 7009)."""
        if token.issuer is None:
            return False
        client = yield from self._client_of(token.issuer)
        return (yield from self._source(client, token.resource).revoke(token))

    def _registered(
        self, found: Discovered, kept: RegisteredClient | None, held: ExitStack
    ) -> Flow[tuple[RegisteredClient, Receiver]]:
        """Return the client of a server, and the receiver at its redirect URI."""
        by_document = self._registrations.by_document(found)
        if by_document is not None:
            return by_document, held.enter_context(self._receiver(None))
        if kept is not None:
            try:
                return kept, held.enter_context(self._receiver(kept.redirect_uri))
            except LoginFailed:  # another program has the registered port: register another one
                pass
        receiver = held.enter_context(self._receiver(None))
        return (yield from self._registrations.register(found, receiver.redirect_uri)), receiver

    def _receiver(self, registered: str | None) -> AbstractContextManager[Receiver]:
        address = self._redirect_uri or registered
        return receivers.loopback() if address is None else receivers.receiver(address)

    def _client_of(self, issuer: str) -> Flow[RegisteredClient]:
        client = yield from self._registrations.known(issuer, self._clock())
        client = client or self._registrations.documented(issuer)
        if client is None:
            raise LoginRequired(f"this app is not registered with {issuer}")
        return client

    def _wanted(self, found: Discovered, previous: Token | None) -> tuple[str, ...]:
        """Return the scopes to request: with those of the last token, for the same server."""
        granted = () if previous is None else previous.scopes or ()
        wanted = (*(self._scopes or found.scopes), *self._demanded, *granted)
        supported = found.metadata.get("scopes_supported")
        offline = isinstance(supported, list) and names.OFFLINE_ACCESS in supported
        return tuple(dict.fromkeys((*wanted, names.OFFLINE_ACCESS) if offline else wanted))

    def _source(
        self,
        client: RegisteredClient,
        resource: str | None,
        scopes: tuple[str, ...] = (),
        metadata: Mapping[str, Any] | None = None,
        receiver: Receiver | None = None,
    ) -> AuthorizationCode:
        return AuthorizationCode(
            client.issuer,
            client_id=client.client_id,
            client_secret=client.client_secret,
            private_key=self._registrations.private_key(client),
            auth_method=client.auth_method,
            metadata=metadata,
            scopes=scopes,
            resources=(resource,) if resource else (),
            dpop=self._dpop,
            parameters=self._parameters,
            open_browser=self._open_browser,
            receiver=None if receiver is None else lambda: nullcontext(receiver),
            timeout=self._timeout,
            clock=self._clock,
        )
