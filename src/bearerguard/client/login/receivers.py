"""The redirect URIs of native apps (RFC 8252 §7), and the receivers of the response at each.

At a loopback URI, a receiver listens. At a private-use scheme (`cursor://`, `vscode://`) or an
https page, the app receives the response, by `receiver=`; or the person pastes the address that the
browser was sent to.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import parse_qsl, urlsplit

from bearerguard.errors import ConfigurationError, LoginFailed
from bearerguard.runtime.addresses import LOOPBACK_HOSTS

_MAX_PARAMETERS = 50
# A browser handles these itself: no app receives the response.
_NO_SCHEMES = {"javascript", "data", "file", "about", "blob", "ftp", "ws", "wss", "mailto"}


class Receiver(Protocol):
    """Receives the redirect that ends an authorization request.

    Attributes:
        redirect_uri: where the browser is sent.
        state: what the response must repeat (RFC 6749 §4.1.1).
    """

    @property
    def redirect_uri(self) -> str: ...  # noqa: D102 - an attribute

    @property
    def state(self) -> str: ...  # noqa: D102 - likewise

    def wait(self, timeout: float) -> Mapping[str, str]:
        """Return the query parameters of the redirect."""
        ...


def checked_redirect_uri(redirect_uri: str) -> str:
    """Return a redirect URI that a native app may have; raises `ConfigurationError`."""
    try:
        if not isinstance(redirect_uri, str) or not redirect_uri.isascii():
            raise ValueError("it is no ASCII text")  # noqa: TRY301 - one way out
        parts = urlsplit(redirect_uri)
        port = parts.port
        if not redirect_uri.isprintable() or set(redirect_uri) & set(' "<>\\^`{|}'):
            raise ValueError("a character in it stands in no URI")  # noqa: TRY301 - one way out
    except ValueError as error:
        raise ConfigurationError(f"redirect_uri=: it cannot be read ({error})") from None
    if not parts.scheme or parts.scheme in _NO_SCHEMES:
        raise ConfigurationError(
            "redirect_uri=: pass http://127.0.0.1:PORT/PATH, http://localhost:PORT/PATH, or a URI"
            " of the app's own scheme such as cursor://host/path"
        )
    if "#" in redirect_uri or "@" in parts.netloc:
        raise ConfigurationError("redirect_uri=: leave out the fragment and the user (RFC 6749)")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise ConfigurationError(
            "redirect_uri=: plain http is for this machine only: 127.0.0.1, localhost or [::1]"
        )
    if parts.scheme == "http" and port == 0:
        raise ConfigurationError("redirect_uri=: name the port that is registered")
    if parts.scheme == "https" and not parts.hostname:
        raise ConfigurationError("redirect_uri=: name a host")
    return redirect_uri


def loopback() -> AbstractContextManager[Receiver]:
    """Return a receiver on a free port of this machine (RFC 8252 §7.3)."""
    from bearerguard.client.login.loopback import LoopbackReceiver  # noqa: PLC0415 - sockets

    return LoopbackReceiver()


def receiver(
    redirect_uri: str, ask: Callable[[], str] | None = None
) -> AbstractContextManager[Receiver]:
    """Return the receiver for a redirect URI; `ask` returns the address that a person pastes."""
    from bearerguard.client.login.loopback import LoopbackReceiver  # noqa: PLC0415 - sockets

    parts = urlsplit(redirect_uri)
    if parts.scheme == "http":
        return LoopbackReceiver(
            host=parts.hostname or "",
            port=80 if parts.port is None else parts.port,
            path=parts.path,
            redirect_uri=redirect_uri,
        )
    return PastedRedirect(redirect_uri, ask or _ask)


class PastedRedirect:
    """Asks the person to paste the address that the browser was sent to.

    Args:
        redirect_uri: the start of that address.
        ask: returns the pasted address.
    """

    def __init__(self, redirect_uri: str, ask: Callable[[], str]) -> None:
        self.redirect_uri = redirect_uri
        self.state: str = secrets.token_urlsafe(32)
        self._ask = ask

    def wait(self, timeout: float) -> Mapping[str, str]:  # noqa: ARG002 - a person is not hurried
        """Return the parameters of the pasted address; raises `LoginFailed` for another."""
        try:
            given = self._ask().strip()
        except EOFError:
            given = ""
        address, _, query = given.partition("?")
        expected, _, own = self.redirect_uri.partition("?")
        try:
            pairs = parse_qsl(
                query.partition("#")[0], keep_blank_values=True, max_num_fields=_MAX_PARAMETERS
            )
        except ValueError:
            pairs = []
        found = dict(pairs)
        is_here = address.rstrip("/") == expected.rstrip("/") and query.startswith(own)
        if not is_here or len(found) != len(pairs) or ("code" in found) == ("error" in found):
            raise LoginFailed(f"what was pasted is no answer at {self.redirect_uri}: log in again")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: nothing was opened."""

    def __repr__(self) -> str:
        return f"PastedRedirect({self.redirect_uri!r})"


def _ask() -> str:
    sys.stderr.write("Paste the address that the browser was sent to: ")
    sys.stderr.flush()
    return sys.stdin.readline()
