"""Walking the places where a document may stand (DISC-01): one rule for the guard and the client.

A place that cannot be reached, answers anything but 200, is no JSON object or speaks for another
is noted, and the next one is asked. Knows neither which documents there are nor who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from bearerguard.protocol import names
from bearerguard.protocol.http import document
from bearerguard.runtime.flow import Fetch, Flow, ask
from bearerguard.runtime.messages import FetchFailed, FetchKind

T = TypeVar("T")

_ACCEPT = (("accept", names.JSON),)
# What timed out once is asked for another place only briefly: the places are mostly on one host,
# and a host that hangs must not hold who waits for several timeouts.
_BRIEFLY = 0.25


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at one place instead of the document.

    `retry_after` is what the server asks for in seconds, and None where asking again alone does
    not help.
    """

    problem: str
    kind: FetchKind | None
    retry_after: float | None


class NothingServed(FetchFailed):
    """No place has the document; the text tells what was found at each."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings: tuple[Finding, ...] = tuple(findings)
        pauses = [each.retry_after for each in self.findings if each.retry_after is not None]
        kinds: frozenset[FetchKind | None] = frozenset(each.kind for each in self.findings)
        super().__init__(
            "; ".join(each.problem for each in self.findings),
            kind=next(iter(kinds)) if len(kinds) == 1 else None,
            temporary=bool(pauses),
        )
        self.retry_after: float = max(pauses, default=1.0)
        # None of them sent a response: nothing is known of the metadata, good or bad.
        self.was_unreachable: bool = kinds.isdisjoint(
            {"status", "redirect", "not_json", "metadata"}
        )


def first(places: Iterable[str], parse: Callable[[bytes], T]) -> Flow[T]:
    """Return what the first place says that has the document.

    `parse` gets a body and raises ValueError where it is not the document, or another's. Raises
    `NothingServed`.
    """
    findings: list[Finding] = []
    share = 1.0
    for url in places:
        try:
            answer = yield from ask(Fetch("GET", url, _ACCEPT, share=share))
        except FetchFailed as error:
            said = str(error) if url in str(error) else f"{url}: {error}"
            findings.append(Finding(said, error.kind, 1.0 if error.temporary else None))
            if error.kind == "timed_out":
                share = _BRIEFLY
            continue
        refused = document.unserved(url, answer)
        if refused is not None:
            pause = document.retry_after(answer) if document.is_unavailable(answer) else None
            findings.append(Finding(str(refused), refused.kind, pause))
            continue
        try:
            return parse(answer.body)
        except ValueError as error:
            kind: FetchKind = "not_json" if isinstance(error, document.NotJson) else "metadata"
            findings.append(Finding(f"{url}: {error}", kind, None))
    raise NothingServed(findings)
