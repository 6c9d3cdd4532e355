"""The grants of one user by application, as the user's page shows them.

A user who allows an app something on each device has as many grants: the page shows the app once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bearerguard.server.account.access import Access, GrantedAccess
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.client import Client
from bearerguard.server.login.consent import destination


@dataclass(slots=True)
class Application:
    """A client with what a user has allowed it.

    Attributes:
        client_id: its id.
        name: its name.
        grants: its grants, the newest first; there may be none, only remembered consent.
        is_remembered: whether it gets access again without the user being asked.
    """

    client_id: str
    name: str
    grants: list[GrantedAccess] = field(default_factory=list)
    is_remembered: bool = False

    @property
    def since(self) -> float:
        """When the user first allowed what it still has, in Unix seconds."""
        return min(each.created_at for each in self.grants)

    @property
    def last_used_at(self) -> float | None:
        """When it last got an access token, in Unix seconds; None if that was at `since`."""
        last = max(each.last_used_at or each.created_at for each in self.grants)
        return last if last > self.since else None

    @property
    def scopes(self) -> list[str]:
        """All scopes of its grants."""
        return _each_once(scope for grant in self.grants for scope in grant.scopes)

    @property
    def resources(self) -> list[str]:
        """The APIs of its grants."""
        return _each_once(resource for grant in self.grants for resource in grant.resources)


def applications(access: Access, user_id: str) -> tuple[list[Application], bool]:
    """Return the applications of a user in the order of their names, and whether there are more."""
    grants, more = access.of_user(user_id)
    found: dict[str, Application] = {}
    for grant in grants:
        known = found.setdefault(grant.client_id, Application(grant.client_id, grant.client_name))
        known.grants.append(grant)
    for client_id, name in access.remembered(user_id).items():
        found.setdefault(client_id, Application(client_id, name)).is_remembered = True
    return sorted(found.values(), key=lambda each: (each.name.casefold(), each.client_id)), more


def place_of(client: Client) -> tuple[str, str]:
    """Return where a client is: a kind (published, host, device or app, or "") and a name."""
    if client.registered_by == clients.BY_DOCUMENT:
        return "published", urlsplit(client.client_id).netloc.lower()
    if not client.redirect_uris:
        return "", ""
    return destination(client.redirect_uris[0])


def _each_once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
