"""Fetching a document from well-known places (DISC-01): one rule for the guard and the client.

A place that cannot be reached, has a status other than 200, or has a document that is no JSON
object or another's, is noted, and the next one is asked. Knows neither the documents nor who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from bearerguard.protocol import names
from bearerguard.protocol.http import document
from bearerguard.runtime.fetching.watch import Watch, unwatched
from bearerguard.runtime.flow import Fetch, Flow, ask
from bearerguard.runtime.messages import FetchFailed, FetchKind, Response

T = TypeVar("T")

_ACCEPT = (("accept", names.JSON),)
# The part of the timeout for the places after one that timed out: they are mostly on one host, and
# a host that hangs must not cost several timeouts.
_AFTER_TIMEOUT = 0.25


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at one place instead of the document.

    `retry_after` is in seconds, and None where trying again alone does not help.
    """

    problem: str
    kind: FetchKind | None
    retry_after: float | None


class NothingServed(FetchFailed):
    """No place has the document; the text says what was found at each.

    Attributes:
        findings: what was found, in the order of the places.
        retry_after: seconds until the next attempt makes sense.
        was_unreachable: whether no place sent a response, so that nothing is known.
    """

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
        self.was_unreachable: bool = kinds.isdisjoint(
            {"status", "redirect", "not_json", "metadata"}
        )


def first(places: Iterable[str], parse: Callable[[bytes], T], watch: Watch = unwatched) -> Flow[T]:
    """Return the parsed document of the first place that has it; raises `NothingServed`.

    `parse` takes a body, and raises ValueError where it is not the document. `watch` watches each
    fetch.
    """
    findings: list[Finding] = []
    share = 1.0
    for url in places:
        fetch = watch(url)
        try:
            with fetch:
                fetch.response = yield from ask(Fetch("GET", url, _ACCEPT, share=share))
                refused = document.unserved(url, fetch.response)
                if refused is not None:
                    raise refused
                return parse(fetch.response.body)
        except FetchFailed as error:
            findings.append(_failed(url, error, fetch.response))
            if error.kind == "timed_out":
                share = _AFTER_TIMEOUT
        except ValueError as error:
            kind: FetchKind = "not_json" if isinstance(error, document.NotJson) else "metadata"
            findings.append(Finding(f"{url}: {error}", kind, None))
    raise NothingServed(findings)


def _failed(url: str, error: FetchFailed, response: Response | None) -> Finding:
    text = str(error) if url in str(error) else f"{url}: {error}"
    pause: float | None = 1.0 if error.temporary else None
    if response is not None:
        pause = document.retry_after(response) if document.is_unavailable(response) else None
    return Finding(text, error.kind, pause)
