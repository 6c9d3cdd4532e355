"""What clients may do for users at the moment: the grants that are neither revoked nor expired.

For operators, by `server.access` and `bearerguard grants`. It lists and ends; `server.grants` makes
them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from bearerguard.errors import ConfigurationError
from bearerguard.server.account import queries
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.revocations import Revocations
from bearerguard.server.store import grants as rows
from bearerguard.server.store.connection import Row, is_storable
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import USER_ID, is_user_id

# Seconds after the beginning of a grant in which its first refresh token is made.
_FIRST = 1.0


@dataclass(frozen=True, slots=True)
class GrantedAccess:
    """What a user has allowed a client at one time. Times are Unix seconds.

    Attributes:
        grant_id: the grant's id, the `sid` of its tokens.
        client_id: the client that has it.
        client_name: that client's name.
        user_id: the user whose it is, the `sub` of its tokens.
        scopes: what the client may do.
        resources: the APIs that it may do it at.
        created_at: since when.
        last_used_at: when the client last got a new access token by its refresh token; None if it
            has not yet, or has no refresh token.
        expires_at: until when, at most.
    """

    grant_id: str
    client_id: str
    client_name: str
    user_id: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    created_at: float
    last_used_at: float | None
    expires_at: float


@dataclass(frozen=True, slots=True)
class AccessPage:
    """A part of a list of grants.

    Attributes:
        grants: at most as many as were asked for, the newest first.
        after: what to pass for the next part; None if this is the last one.
    """

    grants: tuple[GrantedAccess, ...]
    after: str | None


class _EndUser(Protocol):
    def __call__(
        self, user_id: str, client_id: str | None = None, *, personal: bool = True
    ) -> int: ...


class Access:
    """The grants of one server.

    Args:
        database: stores the grants.
        clients: the registered clients.
        revocations: revokes grants.
        end_user: revokes the grants of a user, to one client or to all, and forgets the consent;
            those to all with the `personal` access tokens that no client made; returns how many.
        forget: forgets the consent of a user to a client.
        user_id: returns the id of the user with a login name; raises `AccountError`.
        clock: returns Unix seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        clients: ClientRegistry,
        revocations: Revocations,
        end_user: _EndUser,
        forget: Callable[[str, str], object],
        user_id: Callable[[str], str],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._clients = clients
        self._revocations = revocations
        self._end_user = end_user
        self._forget = forget
        self._user_id = user_id
        self._clock = clock

    def page(
        self,
        *,
        login: str | None = None,
        user_id: str | None = None,
        client_id: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> AccessPage:
        """Return the grants in parts, the newest first; each part costs the same.

        Args:
            login: only those of the user with this login name.
            user_id: instead of it, the `sub` of tokens: only those of this user.
            client_id: only those to this client.
            after: what the part before had as its `after`; None for the first part.
            limit: how many at most.

        Raises:
            AccountError: there is no account with this login name.
            ClientError: the client is not registered.
            ConfigurationError: both `login` and `user_id` are given, or `user_id` is none, `after`
                is of no such list, or the limit is no positive number.
        """
        if not isinstance(limit, int) or limit < 1:
            raise ConfigurationError("limit=: pass a positive number")
        place = queries.START if after is None else _place(after)
        found = list(self._take(place, self._chosen(login, user_id, client_id), limit + 1))
        last = found[limit - 1] if len(found) > limit else None
        return AccessPage(tuple(found[:limit]), None if last is None else _named(last))

    def all(
        self,
        *,
        login: str | None = None,
        user_id: str | None = None,
        client_id: str | None = None,
    ) -> Iterator[GrantedAccess]:
        """Return all grants, the newest first, as `page` does; they are read as they are needed."""
        return self._take(queries.START, self._chosen(login, user_id, client_id))

    def revoke(self, *grant_ids: str) -> tuple[str, ...]:
        """Revoke grants with all their tokens; their users are asked for their consent again.

        Returns:
            The ids of the grants that this call revoked, each once. The other ids are unknown, or
            their grants had ended before.
        """
        given = dict.fromkeys(grant_ids)
        return tuple(each for each in given if self._revoke(each, None, "revoked"))

    def revoke_client(self, client_id: str) -> int:
        """Revoke the grants of all users to a client, which stays registered; return how many.

        The tokens that it has for itself end, too: it can get others. Users are asked for their
        consent again.

        Raises:
            ClientError: the client is not registered.
        """
        return self._revocations.client(self._clients.get(client_id).client_id)

    def of_user(self, user_id: str) -> tuple[list[GrantedAccess], bool]:
        """Return the newest grants of a user, and whether there are more."""
        found = queries.grants_of_user(self._database, user_id, self._clock())
        shown = found[: queries.MOST_OF_USER]
        return list(map(_granted, shown)), len(found) > len(shown)

    def remembered(self, user_id: str) -> dict[str, str]:
        """Return the names, by id, of the clients that get access again without being asked for."""
        found = queries.remembered(self._database, user_id)
        return {row.client_id: row.client_name for row in found}

    def end(self, user_id: str, *, client_id: str) -> None:
        """End all that a user has allowed a client; nothing happens if that is nothing."""
        if is_storable(client_id):
            self._end_user(user_id, client_id)

    def end_all(self, user_id: str) -> None:
        """End all that a user has allowed any client; tokens that the user made stay valid."""
        self._end_user(user_id, personal=False)

    def end_one(self, user_id: str, grant_id: str) -> None:
        """End a grant of this user; nothing happens if it has ended, or is another user's."""
        self._revoke(grant_id, user_id, "asked")

    def _revoke(self, grant_id: str, user_id: str | None, reason: str) -> bool:
        """Revoke a grant, if it is this user's, and forget the consent that it was made by."""
        if not is_storable(grant_id):
            return False
        found = rows.find_grant(self._database, grant_id)
        if found is None or user_id not in {None, found.user_id}:
            return False
        self._forget(found.user_id, found.client_id)
        return self._revocations.grant(grant_id, reason=reason)

    def _chosen(
        self, login: str | None, user_id: str | None, client_id: str | None
    ) -> dict[str, str | None]:
        """Return which grants are asked for; raises what `page` raises."""
        if login is not None and user_id is not None:
            raise ConfigurationError("name the user by login= or by user_id=, not by both")
        if login is not None:
            user_id = self._user_id(login)
        if user_id is not None and not is_user_id(user_id):
            raise ConfigurationError(f"user_id=: a user's id has {USER_ID}")
        if client_id is not None:
            client_id = self._clients.get(client_id).client_id
        return {"user_id": user_id, "client_id": client_id}

    def _take(
        self, place: tuple[float, str], chosen: dict[str, str | None], most: int | None = None
    ) -> Iterator[GrantedAccess]:
        taken = 0
        while most is None or taken < most:
            found = queries.grants_after(
                self._database,
                place,
                now=self._clock(),
                user_id=chosen["user_id"],
                client_id=chosen["client_id"],
            )
            for row in found[: None if most is None else most - taken]:
                yield _granted(row)
            taken += len(found)
            if len(found) < queries.MOST_IN_PAGE:
                return
            place = (found[-1].created_at, found[-1].grant_id)


def _granted(row: Row) -> GrantedAccess:
    refreshed: float | None = row.refreshed_at
    return GrantedAccess(
        grant_id=row.grant_id,
        client_id=row.client_id,
        client_name=row.client_name,
        user_id=row.user_id,
        scopes=tuple(row.scope.split()),
        resources=_resources(row.resources),
        created_at=row.created_at,
        last_used_at=(
            None if refreshed is None or refreshed < row.created_at + _FIRST else refreshed
        ),
        expires_at=row.expires_at,
    )


def _resources(stored: str) -> tuple[str, ...]:
    found: list[Any] = json.loads(stored)
    return tuple(found)


def _named(last: GrantedAccess) -> str:
    return f"{last.created_at!r}:{last.grant_id}"


def _place(after: str) -> tuple[float, str]:
    at, _, grant_id = after.partition(":")
    try:
        if grant_id and is_storable(grant_id):
            return float(at), grant_id
    except ValueError:
        pass
    raise ConfigurationError("after=: pass what the part before has as its after")
