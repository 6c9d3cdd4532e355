"""The device authorization grant (RFC 8628): a person authorizes on another device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Unpack

from bearerguard.client.discovery import secure_url
from bearerguard.client.login.interactive import InteractiveSource
from bearerguard.client.sources.grant import Grant, LoginOptions
from bearerguard.client.sources.issuer_endpoints import IssuerEndpoints
from bearerguard.client.token import Token
from bearerguard.errors import ConfigurationError, TokenRefused, TokenUnavailable, quoted
from bearerguard.protocol import names, token_endpoint
from bearerguard.runtime.effects import Blocking, Sleep
from bearerguard.runtime.flow import Flow, ask

# RFC 8628 §3.2 and §3.5.
_USUAL_INTERVAL, _SLOWER = 5.0, 5.0
_LONGEST_INTERVAL = 60.0
# A code with a longer lifetime than a day is used for a day.
_LONGEST_LIFE = 86_400.0


@dataclass(frozen=True, slots=True)
class DevicePrompt:
    """The code and the address that a person is shown (RFC 8628 §3.2).

    Attributes:
        user_code: the code to enter.
        verification_uri: the address where the code is entered.
        verification_uri_complete: the same with the code in it, if the server sends it.
        expires_in: the seconds until the code expires.
    """

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_in: float
    interval: float = field(default=_USUAL_INTERVAL, repr=False)
    device_code: str = field(default="", repr=False)


def print_prompt(prompt: DevicePrompt) -> None:
    """Print the address and the code on standard error."""
    sys.stderr.write(f"Open {prompt.verification_uri} and enter the code {prompt.user_code}\n")
    sys.stderr.flush()


class DeviceCode(InteractiveSource):
    """Tokens that a person authorizes on another device (RFC 8628).

    Args:
        issuer: the authorization server's identifier.
        client_id: the client's identifier.
        prompt: shows the code and the address to the person; prints them by default.
        options: those of `LoginOptions` (`parameters=` for the device authorization request)
            and of `EndpointOptions`.

    Raises:
        ConfigurationError: an option is missing, unknown or unsafe.
    """

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        prompt: Callable[[DevicePrompt], object] = print_prompt,
        **options: Unpack[LoginOptions],
    ) -> None:
        super().__init__(issuer, "device_code", client_id=client_id, **options)
        self._prompt = prompt

    def login(self, previous: Token | None) -> Flow[Token]:
        """Show a code, and poll the token endpoint until the person has entered it."""
        grant = self._grant
        audience = token_endpoint.scope_and_resource(grant.scopes, grant.resources)
        prompt = yield from _prompted(grant.server, [*audience, *grant.parameters])
        yield from ask(Blocking(lambda: self._prompt(prompt)))
        return (yield from _granted(grant, prompt, previous))


def _prompted(server: IssuerEndpoints, fields: list[tuple[str, str]]) -> Flow[DevicePrompt]:
    """Request a user code (RFC 8628 §3.1)."""
    url = yield from server.endpoint("device_authorization_endpoint")
    response = yield from server.post(url, fields)
    members = token_endpoint.members(response)
    for name in ("verification_uri", "verification_uri_complete"):
        if members.get(name) is None:  # Google's name for it is older than the RFC
            members[name] = members.get(name.replace("uri", "url"))
    for name in ("user_code", "verification_uri", "device_code"):
        text = members.get(name)
        if not isinstance(text, str) or not text or not text.isprintable():
            raise _unusable(f"its {name} is no text")
    complete = members.get("verification_uri_complete") or None  # empty means absent
    return DevicePrompt(
        members["user_code"],
        _address("verification_uri", members["verification_uri"]),
        None if complete is None else _address("verification_uri_complete", complete),
        min(_seconds(members, "expires_in"), _LONGEST_LIFE),
        _interval(members),
        members["device_code"],
    )


def _granted(grant: Grant, prompt: DevicePrompt, previous: Token | None) -> Flow[Token]:
    """Poll until the person has decided (RFC 8628 §3.4, §3.5)."""
    fields = [("grant_type", names.DEVICE_CODE), ("device_code", prompt.device_code)]
    interval, waited = prompt.interval, 0.0
    while waited < prompt.expires_in:
        yield from ask(Sleep(interval))
        waited += interval
        try:
            return (yield from grant.ask(fields, previous, refreshing=False))
        except TokenRefused as refused:
            if refused.error == names.SLOW_DOWN:
                interval += _SLOWER
            elif refused.error != names.AUTHORIZATION_PENDING:
                raise
        except TokenUnavailable as trouble:
            longer = max(interval * 2, trouble.retry_after)
            interval = max(interval, min(longer, _LONGEST_INTERVAL))
    raise TokenRefused(names.EXPIRED_TOKEN, "the code was not entered in time: log in again")


def _unusable(cause: str) -> TokenRefused:
    return TokenRefused("invalid_response", f"the server's device code is unusable: {cause}")


def _address(name: str, given: Any) -> str:
    try:
        return secure_url(name, given)
    except ConfigurationError:
        raise _unusable(f"its {name}, {quoted(given)}, is no https URL") from None


def _seconds(members: dict[str, Any], name: str) -> float:
    try:
        return float(members[name])
    except (KeyError, ValueError, TypeError, OverflowError):
        raise _unusable(f"its {name} is no number of seconds") from None


def _interval(members: dict[str, Any]) -> float:
    """Return the seconds between two polls: at least one, and at most a code's longest lifetime."""
    is_named = members.get("interval") not in (None, "")
    seconds = _seconds(members, "interval") if is_named else _USUAL_INTERVAL
    return min(max(1.0, seconds), _LONGEST_LIFE)
