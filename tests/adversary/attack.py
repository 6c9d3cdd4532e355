"""An attack: a hostile request, and the control that differs from it in the attack alone.

Each runs through both adapters, with and without the extra [speed], first against a guard that has
seen nothing and then against one that has just accepted the control: the shortcuts for known
headers and known tokens must refuse it as well. What `tests.conformance` has is not repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from bearerguard.protocol.jose import base64url, jwk, ml_dsa, speed, strict_json
from bearerguard.testing import SigningKey
from tests.conformance.drivers import DRIVERS, Headers, Received
from tests.conformance.harness import Harness, bearer
from tests.conformance.hdr_table import REQUEST, TOKEN, good
from tests.conformance.scenario import Scenario

Send = Callable[[Harness], Headers]

# The options of `Scenario` that are those of a request.
_SENT = ("method", "target", "body", "peer", "certificate")

PARSERS = ("plain", "speed") if speed.IN_USE else ("plain",)
"""The ways to parse that are installed here."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One row: `id` begins with the item of the checklist that refuses it."""

    id: str
    hostile: Send
    control: Send = field(default=good())
    status: int = 401
    error: str | None = TOKEN
    prepare: Callable[[Harness], object] = field(default=lambda _harness: None)
    after: Callable[[Harness], object] = field(default=lambda _harness: None)
    options: Mapping[str, Any] = field(default_factory=dict)  # those of `Scenario`
    proved: Mapping[str, Any] = field(default_factory=dict)  # how the control is sent: `Sent`
    # Whether the control is made anew each time: a DPoP proof is accepted once.
    once: bool = False

    def run(self) -> None:
        """Send it through both adapters; both must refuse it alike, and accept the control."""
        asgi, wsgi = map(self._refused, DRIVERS)
        assert asgi.status == wsgi.status
        assert asgi.body == wsgi.body
        assert asgi.values("www-authenticate") == wsgi.values("www-authenticate")

    def _refused(self, driver: str) -> Received:
        sent: list[Headers] = []

        def send(harness: Harness) -> Headers:
            sent.append(self.hostile(harness))
            return sent[0]

        def then(harness: Harness, cold: Received) -> None:
            control = self.control(harness)
            for _ in range(2):
                accepted = harness.request(control, **self.proved)
                assert accepted.status == 200, f"the control gets {accepted.status}"
                control = self.control(harness) if self.once else control
            how = {name: self.options[name] for name in _SENT if name in self.options}
            warm = harness.request(sent[0], **how)
            assert (warm.status, warm.body) == (cold.status, cold.body)
            self.after(harness)

        scenario = Scenario(
            id=self.id,
            send=send,
            status=self.status,
            error=self.error,
            before=self.prepare,
            after=then,
            **self.options,
        )
        return scenario.run(DRIVERS[driver])


def malformed(id: str, hostile: Send, **options: Any) -> Attack:  # noqa: A002 - as in Attack
    """Credentials that are no bearer token at all: 400."""
    return Attack(id=id, hostile=hostile, status=400, error=REQUEST, **options)


@contextmanager
def parsing(parsers: str) -> Iterator[None]:
    """Parse without the extra [speed] inside the block, if `parsers` is "plain"."""
    if parsers == "speed":
        yield
        return
    with (
        mock.patch.object(base64url, "pybase64", None),
        mock.patch.object(strict_json, "loads_object", strict_json._parsed_object),
    ):
        yield


def signed(text: bytes, key: SigningKey) -> str:
    """Append the genuine signature of exactly this text, decodable or not."""
    if key.algorithm in ml_dsa.NAMES:
        signature = key.private.sign(text)
    else:
        signature = jwk.ALGORITHMS[key.algorithm].sign(text, key.private)
    return (text + b"." + base64url.encode(signature)).decode("latin-1")


def respelled(part: int, rewrite: Callable[[str], str]) -> Send:
    """Send a token, one part of which is spelled differently; its signature is genuine."""

    def send(harness: Harness) -> Headers:
        parts = harness.token().split(".")
        parts[part] = rewrite(parts[part])
        if part < 2:
            text = ".".join(parts[:2]).encode("latin-1")
            return bearer(signed(text, harness.issuer.key))
        return bearer(".".join(parts))

    return send


def resigned(rewrite: Callable[[bytes, Harness], bytes]) -> Send:
    """Send a token whose signature is rewritten as octets."""

    def send(harness: Harness) -> Headers:
        signing_input, _, signature = harness.token().rpartition(".")
        octets = rewrite(base64url.decode(signature.encode()), harness)
        return bearer(f"{signing_input}.{base64url.encode(octets).decode()}")

    return send
