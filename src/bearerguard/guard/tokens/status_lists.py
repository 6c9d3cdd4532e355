"""Checks the status of tokens in their issuers' status lists (draft-ietf-oauth-status-list §8.3).

A token's status is checked when the token is verified, and again when a newer list has arrived or
the list has reached its age: the `validity` of the cached token says when. That of an open stream's
token is checked by its `StreamStatus`, when a newer list arrives. No request to a URI that the
issuer's configuration does not allow is ever made.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Container, Iterator
from functools import partial
from typing import TYPE_CHECKING

from bearerguard.errors import (
    BAD_STATUS,
    STATUS_NOT_VALID,
    STATUS_UNAVAILABLE,
    IssuerUnavailable,
    Reason,
    Refusal,
    TokenError,
    quoted,
)
from bearerguard.guard import revocation
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.events import Events
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.keys.refresher import Refreshable
from bearerguard.guard.keys.status_validity import StatusValidity, of_key
from bearerguard.guard.stream_tokens import Key
from bearerguard.guard.token_cache import VerifiedToken
from bearerguard.guard.tokens.jwt_validator import IssuerKeys
from bearerguard.guard.tokens.status_list_cache import HeldList, StatusListCache
from bearerguard.principal import Principal
from bearerguard.protocol import status_list
from bearerguard.protocol.status_list import StatusReference
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.generations import Generations

if TYPE_CHECKING:
    from bearerguard.guard.health import StatusListHealth

# An issuer fills one list after the other. A million statuses of one bit take 125 kB.
_MAX_LISTS = 128

_NO_STATUS = "it names no status list, and require_status=True is set: let the issuer send one"


class StatusLists:
    """The status lists of a guard's issuers; those not used lately are dropped first.

    Args:
        find: returns the issuer of that name, with its keys; None for an unknown one.
        revocations: the guard's.
        clock: returns Unix seconds.
        monotonic: returns seconds that clock changes do not affect.
        events: reports failures.
        schedule: called with a list and the seconds until its refresh is due.
        on_shortened: called when cached tokens must be looked up again.
    """

    def __init__(
        self,
        find: Callable[[str], IssuerKeys | None],
        *,
        revocations: revocation.GuardRevocations | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        events: Events,
        schedule: Callable[[Refreshable, float], None],
        on_shortened: Callable[[], None],
    ) -> None:
        self._find = find
        self._new = partial(
            StatusListCache,
            revocations=revocations,
            clock=clock,
            monotonic=monotonic,
            events=events,
            schedule=schedule,
            on_shortened=on_shortened,
            on_installed=self._tell,
        )
        self._lists: Generations[tuple[str, str], StatusListCache] = Generations(
            _MAX_LISTS, on_drop=self._dropped
        )
        # Those that open streams hold, or held; none of them is dropped.
        self._of_streams: weakref.WeakValueDictionary[tuple[str, str], StatusListCache] = (
            weakref.WeakValueDictionary()
        )
        self._watchers: tuple[weakref.WeakMethod[Callable[[Collection[Key]], None]], ...] = ()

    def admits(self, token: VerifiedToken) -> bool:
        """Whether the status of a JWT is valid; False means that its list must be fetched first.

        Raises `TokenError` for a token whose status is not valid, or not where it must be.
        """
        trusted = self._find(token.principal.issuer or "")
        if trusted is None or not trusted[0].status_lists:
            return True
        issuer = trusted[0]
        try:
            reference = status_list.reference(token.principal.claims)
            if reference is None:
                if issuer.require_status:
                    raise TokenError(BAD_STATUS, _NO_STATUS)
                return True
            held = self._list(reference, *trusted).current()
            if held is None:
                return False
            _admit(token, reference, held)
        except Refusal as refusal:
            refusal.concern(issuer.url, issuer.hints.get(refusal.reason.code))
            raise
        return True

    def check(self, token: VerifiedToken) -> Flow[None]:
        """Check the status of a token, fetching its list if need be.

        Raises `TokenError`, or `StatusUnavailable` when there is no list to be used.
        """
        trusted = self._find(token.principal.issuer or "")
        if trusted is None or not trusted[0].status_lists:
            return
        issuer = trusted[0]
        try:
            reference = status_list.reference(token.principal.claims)
            if reference is None:
                token.validity = of_key(token.validity)
                return
            held = yield from self._list(reference, *trusted).load()
            _admit(token, reference, held)
        except Refusal as refusal:
            refusal.concern(issuer.url, issuer.hints.get(refusal.reason.code))
            raise

    def renew(self, token: VerifiedToken) -> bool:
        """Check the status of a cached token again; False if the token must be verified anew."""
        try:
            return self.admits(token)
        except (Refusal, IssuerUnavailable):  # verifying it anew says the same, with the reason
            return False

    def of_stream(self, principal: Principal) -> StreamStatus | None:
        """Return the status of a token that holds a stream open, None for a token without one.

        The token was admitted: its reference is well-formed, and its list allowed.
        """
        name = principal.issuer or ""
        try:
            reference = status_list.reference(principal.claims)
            if reference is None:
                return None
            found = self._known((name, reference.uri))
            if found is None:
                trusted = self._find(name)
                if trusted is None or not trusted[0].status_lists:
                    return None
                found = self._list(reference, *trusted)
        except (Refusal, IssuerUnavailable):
            return None  # nobody can tell where its status is
        self._of_streams[found.issuer.url, found.uri] = found
        return StreamStatus(found, reference)

    def lost(self, of_open: Container[Key]) -> list[Key]:
        """Return which lists nobody can tell a status by, among those `of_open` streams.

        Plans the refresh of the others.
        """
        lost: list[Key] = []
        for each in list(self._of_streams.values()):
            key = _key(each)
            if key in of_open:
                each.watch()
                if each.is_lost:
                    lost.append(key)
        return lost

    def watch(self, watcher: Callable[[Collection[Key]], None]) -> None:
        """Call a bound method, held weakly, with the key of a list that arrived, in any thread."""
        alive = [each for each in self._watchers if each() is not None]
        self._watchers = (*alive, weakref.WeakMethod(watcher))

    def unschedule(self) -> None:
        """Make the next use of any list plan its refresh again."""
        for each in self._all():
            each.unschedule()

    def health(self) -> dict[str, StatusListHealth]:
        """Return the state of each list, by its URI."""
        return {each.uri: each.health() for each in self._all()}

    def _all(self) -> Iterator[StatusListCache]:
        yield from self._lists.values()

    def _list(self, reference: StatusReference, issuer: Issuer, keys: KeyCache) -> StatusListCache:
        uri = reference.uri
        if not status_list.is_allowed(uri, issuer.status_lists):
            raise TokenError(
                BAD_STATUS,
                f"its status list is {quoted(uri)}: add it to status_lists= of the Issuer if it is"
                " the issuer's",
            )
        found = self._known((issuer.url, uri))
        if found is None:
            found = self._new(uri, issuer, keys)
            self._lists.put((issuer.url, uri), found)
        return found

    def _known(self, place: tuple[str, str]) -> StatusListCache | None:
        return self._lists.get(place) or self._of_streams.get(place)

    def _dropped(self, cache: StatusListCache) -> None:
        if self._of_streams.get((cache.issuer.url, cache.uri)) is not cache:
            cache.retire()

    def _tell(self, cache: StatusListCache) -> None:
        key = _key(cache)
        for each in self._watchers:
            watcher = each()
            if watcher is not None:
                watcher((key,))


class StreamStatus:
    """The status of the token that holds a stream open.

    Args:
        cache: the list that has it, held as long as the stream is open.
        reference: where it is.
    """

    __slots__ = ("_cache", "_checked", "_reference")

    def __init__(self, cache: StatusListCache, reference: StatusReference) -> None:
        self._cache = cache
        self._reference = reference
        self._checked: HeldList | None = None

    @property
    def key(self) -> Key:
        """The key of its list."""
        return _key(self._cache)

    def ending(self) -> Reason | None:
        """Return why the stream must end now, None if it may go on."""
        held = self._cache.watch()
        if held is not None and held is not self._checked:
            try:
                _check(self._reference, held)
            except TokenError as refusal:
                return refusal.reason
            self._checked = held
        return STATUS_UNAVAILABLE if self._cache.is_lost else None


def _key(cache: StatusListCache) -> Key:
    return "status_list", cache.issuer.url, cache.uri


def _admit(token: VerifiedToken, reference: StatusReference, held: HeldList) -> None:
    """Check a status, and note until when it counts."""
    _check(reference, held)
    token.validity = StatusValidity(of_key(token.validity), held.validity, held.signer)


def _check(reference: StatusReference, held: HeldList) -> None:
    """Raise `TokenError` for a status that is not valid."""
    try:
        status = held.statuses[reference.index]
    except IndexError:
        raise TokenError(
            BAD_STATUS,
            f"its idx is not among the {len(held.statuses)} of {quoted(reference.uri)}: let the"
            " issuer name the list that has its status",
        ) from None
    if status != status_list.VALID:
        raise TokenError(
            STATUS_NOT_VALID,
            f"its status is {status_list.named(status)} in {quoted(reference.uri)}: log in again,"
            " or have the issuer lift it",
        )
