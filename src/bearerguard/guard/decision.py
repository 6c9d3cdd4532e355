"""The guard's verdicts. Faces translate them and decide nothing themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from bearerguard.errors import Reason
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.runtime.flow import Flow


@dataclass(frozen=True, slots=True)
class Allow:
    """The request may pass as `principal`, which may be `ANONYMOUS`."""

    principal: Principal


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused with a status of 400, 401 or 403 and these challenges.

    `principal` is who asked when the token was valid and too weak; `expired` says that
    a genuine token's time is over; `error` and `scope` are as in the challenge.
    """

    status: int
    reason: Reason
    challenges: tuple[Challenge, ...]
    error: str | None = None
    scope: str | None = None
    principal: Principal = ANONYMOUS
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing could be learned about the token: 503, worth trying again after some seconds."""

    retry_after: int
    reason: Reason
    status: int = 503


Decision: TypeAlias = Allow | Deny | Unavailable


class Pending:
    """A decision for which something must be asked of the world: by driving `flow`."""

    __slots__ = ("flow",)

    def __init__(self, flow: Flow[Decision]) -> None:
        self.flow = flow
