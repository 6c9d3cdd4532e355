"""A scenario: the request, the guard that gets it, and the response that must come back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.drivers import AppHeaders, Call, Headers, Received
from tests.conformance.harness import Harness

_PARAMETER = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"(?:, |$)')


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table. `id` begins with the item of the checklist that it tests."""

    id: str
    send: Callable[[Harness], Headers]
    status: int
    error: str | None = None
    scope: str | None = None
    method: str = "GET"
    target: str = "/things"
    body: bytes = b""
    peer: tuple[str, int] | None = None
    certificate: str = ""
    before: Callable[[Harness], object] = field(default=lambda _harness: None)
    after: Callable[[Harness, Received], object] = field(default=lambda _harness, _response: None)
    algorithm: str = "ES256"
    own_issuer: bool = False
    issuer: Mapping[str, Any] = field(default_factory=dict)
    introspection: Mapping[str, Any] | None = None
    guard: Mapping[str, Any] = field(default_factory=dict)
    fresh: Callable[[], Mapping[str, Any]] = dict  # more options of the guard, made for each driver
    adapter: Mapping[str, Any] = field(default_factory=dict)
    app_headers: AppHeaders = ()
    identity: str | None = None
    headers: Mapping[str, str | re.Pattern[str]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    # The schemes of the challenges, in their order, and those whose challenge has the error.
    schemes: tuple[str, ...] = ("Bearer",)
    erring: tuple[str, ...] | None = None

    def run(self, call: Call) -> Received:
        """Send the request with one driver and check the response."""
        harness = Harness(
            call,
            algorithm=self.algorithm,
            own_issuer=self.own_issuer,
            issuer_options=dict(self.issuer),
            introspection=self.introspection,
            guard_options={**self.guard, **self.fresh()},
            adapter_options=dict(self.adapter),
            app_headers=self.app_headers,
        )
        with harness.guard:
            self.before(harness)
            headers = self.send(harness)
            response = harness.request(
                headers,
                method=self.method,
                target=self.target,
                body=self.body,
                peer=self.peer,
                certificate=self.certificate,
            )
            self._check(harness, response)
            self.after(harness, response)
        return response

    def _check(self, harness: Harness, response: Received) -> None:
        assert response.status == self.status
        if self.status == 200:
            assert response.values("www-authenticate") == []
            if self.identity is not None:
                assert response.body.decode() == self.identity
        else:
            assert response.values("cache-control") == ["no-store"]
            if self.status == 503:
                assert int(response.one("retry-after")) >= 1
                assert response.values("www-authenticate") == []
            else:
                self._check_challenge(harness, response)
            if "denial_body" not in self.guard:
                self._check_problem(response)
        for name, expected in self.headers.items():
            value = ", ".join(response.values(name))
            if isinstance(expected, str):
                assert value == expected
            else:
                assert expected.fullmatch(value)
        for name in self.absent:
            assert response.values(name) == []

    def _check_challenge(self, harness: Harness, response: Received) -> None:
        values = response.values("www-authenticate")
        assert tuple(value.partition(" ")[0] for value in values) == self.schemes
        erring = self.schemes[:1] if self.erring is None else self.erring
        for scheme, value in zip(self.schemes, values, strict=True):
            parameters = challenge_parameters(value, scheme)
            assert parameters.pop("realm") == harness.guard.realm
            assert ("algs" in parameters) is (scheme == "DPoP")
            error = self.error if scheme in erring else None
            assert parameters.get("error") == error
            assert ("error_description" in parameters) is (error is not None)
            named = parameters.get("scope")
            if scheme in erring:
                assert (named and set(named.split())) == (self.scope and set(self.scope.split()))

    def _check_problem(self, response: Received) -> None:
        assert response.one("content-type") == "application/problem+json"
        if self.method == "HEAD":
            assert response.body == b""
            return
        problem = json.loads(response.body)
        assert problem["status"] == self.status
        assert problem["type"] == "about:blank"
        assert problem["title"]
        assert problem["detail"]
        assert problem.get("error") == self.error
        if self.status in {401, 403}:
            value = response.values("www-authenticate")[0]
            parameters = challenge_parameters(value, value.partition(" ")[0])
            assert problem.get("scope") == parameters.get("scope")


def challenge_parameters(value: str, expected: str = "Bearer") -> dict[str, str]:
    """Parse one challenge strictly; a repeated or unquoted parameter fails."""
    scheme, _, rest = value.partition(" ")
    assert scheme == expected
    found = _PARAMETER.findall(rest)
    assert "".join(match[0] for match in _PARAMETER.finditer(rest)) == rest
    assert len({name for name, _ in found}) == len(found)
    return {name: re.sub(r"\\(.)", r"\1", text) for name, text in found}
