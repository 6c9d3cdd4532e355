"""What a scenario is: who sends what to which guard, and what must come back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.stage import Stage
from tests.conformance.worlds import Answer, AppHeaders, Call, Headers

_PARAMETER = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"(?:, |$)')


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One row of the table. `id` begins with the item of the checklist that it proves."""

    id: str
    send: Callable[[Stage], Headers]
    status: int
    error: str | None = None
    scope: str | None = None
    method: str = "GET"
    target: str = "/things"
    body: bytes = b""
    before: Callable[[Stage], object] = field(default=lambda _stage: None)
    after: Callable[[Stage, Answer], object] = field(default=lambda _stage, _answer: None)
    algorithm: str = "ES256"
    own_issuer: bool = False
    issuer: Mapping[str, Any] = field(default_factory=dict)
    introspection: Mapping[str, Any] | None = None
    guard: Mapping[str, Any] = field(default_factory=dict)
    fresh: Callable[[], Mapping[str, Any]] = dict  # more of those, made for each world
    face: Mapping[str, Any] = field(default_factory=dict)
    app_headers: AppHeaders = ()
    identity: str | None = None
    headers: Mapping[str, str | re.Pattern[str]] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    def play(self, call: Call) -> Answer:
        """Send the request in one world and check the answer."""
        stage = Stage(
            call,
            algorithm=self.algorithm,
            own_issuer=self.own_issuer,
            issuer_options=dict(self.issuer),
            introspection=self.introspection,
            guard_options={**self.guard, **self.fresh()},
            face_options=dict(self.face),
            app_headers=self.app_headers,
        )
        with stage.guard:
            self.before(stage)
            headers = self.send(stage)
            answer = stage.request(headers, method=self.method, target=self.target, body=self.body)
            self._check(stage, answer)
            self.after(stage, answer)
        return answer

    def _check(self, stage: Stage, answer: Answer) -> None:
        assert answer.status == self.status
        if self.status == 200:
            assert answer.values("www-authenticate") == []
            if self.identity is not None:
                assert answer.body.decode() == self.identity
        else:
            assert answer.values("cache-control") == ["no-store"]
            if self.status == 503:
                assert int(answer.one("retry-after")) >= 1
                assert answer.values("www-authenticate") == []
            else:
                self._check_challenge(stage, answer)
            if "denial_body" not in self.guard:
                self._check_problem(answer)
        for name, expected in self.headers.items():
            value = ", ".join(answer.values(name))
            if isinstance(expected, str):
                assert value == expected
            else:
                assert expected.fullmatch(value)
        for name in self.absent:
            assert answer.values(name) == []

    def _check_challenge(self, stage: Stage, answer: Answer) -> None:
        parameters = challenge_parameters(answer.one("www-authenticate"))
        assert parameters.pop("realm") == stage.guard.realm
        assert parameters.get("error") == self.error
        assert ("error_description" in parameters) is (self.error is not None)
        named = parameters.get("scope")
        assert (named and set(named.split())) == (self.scope and set(self.scope.split()))

    def _check_problem(self, answer: Answer) -> None:
        assert answer.one("content-type") == "application/problem+json"
        if self.method == "HEAD":
            assert answer.body == b""
            return
        problem = json.loads(answer.body)
        assert problem["status"] == self.status
        assert problem["type"] == "about:blank"
        assert problem["title"]
        assert problem["detail"]
        assert problem.get("error") == self.error
        if self.status in {401, 403}:
            parameters = challenge_parameters(answer.one("www-authenticate"))
            assert problem.get("scope") == parameters.get("scope")


def challenge_parameters(value: str) -> dict[str, str]:
    """Parse one Bearer challenge strictly; a repeated or unquoted parameter fails."""
    scheme, _, rest = value.partition(" ")
    assert scheme == "Bearer"
    found = _PARAMETER.findall(rest)
    assert "".join(match[0] for match in _PARAMETER.finditer(rest)) == rest
    assert len({name for name, _ in found}) == len(found)
    return {name: re.sub(r"\\(.)", r"\1", text) for name, text in found}
