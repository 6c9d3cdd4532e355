"""Where tokens come from that a client presents, not as access tokens, but for others.

They are assertions (RFC 7523) and subject tokens (RFC 8693): text, a file that a platform renews,
a function, or an object that fetches one. They are read anew for each request, and never stored.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlencode

from bearerguard.client import discovery
from bearerguard.errors import ConfigurationError, TokenUnavailable
from bearerguard.protocol import names, token_endpoint
from bearerguard.runtime.effects import Blocking
from bearerguard.runtime.flow import Fetch, Flow, ask
from bearerguard.runtime.messages import FetchFailed

# The characters of a longer file are not read: it is no token.
_MOST = 65_536
# What GitHub Actions set in a job with `permissions: id-token: write`.
_URL, _TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"


@dataclass(frozen=True, slots=True)
class AssertionRequest:
    """What an assertion is for.

    Attributes:
        audience: the authorization server that will get it.
        scopes: the scopes that will be requested there.
        resources: the APIs that the access token will be for.
    """

    audience: str
    scopes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


@runtime_checkable
class AssertionSource(Protocol):
    """Gets assertions, such as `GitHubActions` and `IdentityAssertion`.

    Attributes:
        key: what distinguishes it from others, for the key of a stored access token; no secret.
    """

    @property
    def key(self) -> str: ...  # noqa: D102 - an attribute

    def assertion(self, request: AssertionRequest) -> Flow[str]:
        """Return an assertion; raises as `TokenSource.token` does."""
        ...


GivenAssertion: TypeAlias = str | Path | Callable[[], str] | AssertionSource
"""An assertion, a file that has it, a function that returns it, or what gets it."""


class GitHubActions:
    """The OpenID Connect token of a job in GitHub Actions, with `permissions: id-token: write`.

    Args:
        audience: its `aud`; by default the issuer that gets it.
        environ: where the job's variables are; the process's environment by default.
    """

    key = "github-actions"

    def __init__(
        self, *, audience: str | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self._audience = audience
        self._environ = environ

    def assertion(self, request: AssertionRequest) -> Flow[str]:
        """Return the token; raises `TokenUnavailable`."""
        environ = os.environ if self._environ is None else self._environ
        url, token = environ.get(_URL), environ.get(_TOKEN)
        if not url or not token:
            raise TokenUnavailable(
                f"{_URL} and {_TOKEN} are not set: give the job `permissions: id-token: write`",
                temporary=False,
            )
        discovery.secure_url(_URL, url, insecure_allow_http=False)
        asked = urlencode({"audience": self._audience or request.audience})
        place = f"{url}{'&' if '?' in url else '?'}{asked}"
        headers = (("accept", names.JSON), ("authorization", f"{names.BEARER} {token}"))
        try:
            response = yield from ask(Fetch("GET", place, headers))
        except FetchFailed as error:
            raise discovery.unavailable(error) from None
        return checked("the token of GitHub Actions", token_endpoint.members(response).get("value"))

    def __repr__(self) -> str:
        return "GitHubActions()"


def reader(option: str, given: GivenAssertion) -> AssertionSource:
    """Return what gets an assertion, as the option `option` was given.

    Raises `ConfigurationError` for anything that cannot.
    """
    if isinstance(given, str):
        text = given if given.isascii() and given.isprintable() and " " not in given else ""
        if not text:
            raise ConfigurationError(
                f"{option}=: pass the token alone, or a pathlib.Path of the file that has it"
            )
        return _Read(hashlib.sha256(given.encode()).hexdigest()[:16], lambda: given)
    if isinstance(given, Path):
        return _Read(str(given), lambda: _content(option, given))
    if isinstance(given, AssertionSource):
        return given
    if callable(given):
        return _Read("", lambda: checked(f"what {option}= returns", given()))
    raise ConfigurationError(
        f"{option}=: pass the token, a pathlib.Path, a function that returns it, or an object with"
        " key and assertion(request)"
    )


class _Read:
    """An assertion that a call returns, which may block."""

    def __init__(self, key: str, call: Callable[[], str]) -> None:
        self.key: str = key
        self._call = call

    def assertion(self, request: AssertionRequest) -> Flow[str]:  # noqa: ARG002 - as a source
        """Return it."""
        return (yield from ask(Blocking(self._call)))


def _content(option: str, path: Path) -> str:
    """Return the token of a file; raises `TokenUnavailable`."""
    try:
        with path.open(encoding="ascii") as file:
            text = file.read(_MOST)
    except (OSError, UnicodeDecodeError) as error:
        raise TokenUnavailable(
            f"{option}=: {path} cannot be read ({type(error).__name__})", temporary=False
        ) from error
    return checked(f"{option}=: {path}", text.strip())


def checked(what: str, token: object) -> str:
    """Return a token; raises `TokenUnavailable` for anything that a request cannot have."""
    usable = isinstance(token, str) and token.isascii() and token.isprintable()
    if not usable or not token or " " in token:  # type: ignore[operator]
        raise TokenUnavailable(f"{what} is no token", temporary=False)
    return str(token)
