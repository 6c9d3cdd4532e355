"""The test mode of a guard: inside a block it trusts a `LocalIssuer` in the place of a real one.

The guard, the middleware around it and the app stay the same objects. Only code that calls
`trusted` gets here: no setting and no variable does.
"""

from __future__ import annotations

import secrets
import threading
import time
import weakref
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.guard import Guard, GuardOptions
from bearerguard.guard.revocation.revocations import Revocations
from bearerguard.guard.tokens.trusted_issuers import of_tenant
from bearerguard.middleware.app_guard import guard_in, guards_of_django
from bearerguard.protocol import names
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.testing.acting import in_use
from bearerguard.testing.clock import Clock
from bearerguard.testing.local_issuer import InProcess, LocalIssuer

# Those whose keys are made at once come first.
_PREFERRED = ("ES256", "EdDSA", "RS256")
_SECRET_BYTES = 64  # enough for each of the algorithms


class _Block:
    """A block in which a guard has another state; `before` is its state once the block is over."""

    def __init__(self, before: dict[str, Any]) -> None:
        self.before = before


# The blocks that each guard is in, those that began last at the end.
_blocks: weakref.WeakKeyDictionary[Guard, list[_Block]] = weakref.WeakKeyDictionary()
_changing = threading.RLock()


@contextmanager
def trusted(
    guard: object = None,
    *,
    issuer: Issuer | str | None = None,
    tenant: str | None = None,
) -> Generator[LocalIssuer]:
    """Have a guard trust a test issuer in the place of a real one, inside the block.

    The block gets a `LocalIssuer` with the real issuer's identifier and audience, and keys of its
    own. It signs by an algorithm that the guard accepts, and puts scopes and roles into the claims
    that the guard reads. The guard does not use the network, Redis or a database of revocations
    inside the block, and it goes by the clock of the test issuer. Its other options hold. At the
    end all is as before: the guard refuses the tokens of the block, and forgets what was revoked.

    Blocks may be nested, for the other issuers of a guard. Those of several threads or tasks may
    end in any order: the guard is as before when the last one of them has ended.

    Args:
        guard: the guard; or an app, a middleware, an extension or a dependency that has one. In a
            Django project it may be left out: it is that of `settings.BEARERGUARD`.
        issuer: which of the guard's issuers, or its url; required if there are several.
        tenant: which tenant of a multi-tenant issuer; required if it has several.

    Raises:
        ConfigurationError: the guard has no such issuer or tenant, or several.
    """
    tested = guard_of(guard)
    real = _chosen(tested, issuer)
    clock = tested.clock
    if not isinstance(clock, Clock):
        clock = Clock() if clock is time.time else Clock(clock)
    local = _standing_in(_tenant(real, tenant), clock)
    stand_in = Guard(
        *(_trusting(each, local) if each is real else each for each in tested.issuers),
        **_options(tested, local),
    )
    try:
        with _acting_as(tested, vars(stand_in)), in_use(local):
            yield local
    finally:
        stand_in.close()
        local.close()


@contextmanager
def _acting_as(guard: Guard, state: Mapping[str, Any]) -> Generator[None]:
    """Have a guard act with another state inside the block."""
    with _changing:
        block = _Block(dict(vars(guard)))
        _blocks.setdefault(guard, []).append(block)
    try:
        with _changing:
            guard.replace_state(state)
        yield
    finally:
        with _changing:
            in_force = _blocks[guard]
            place = in_force.index(block)
            in_force.remove(block)
            if place < len(in_force):
                # The next one ends after this one, and must not bring this one's keys back.
                in_force[place].before = block.before
            else:
                guard.replace_state(block.before)


def guard_of(given: object) -> Guard:
    """Return the guard that was passed, that of an app, or for None that of a Django project.

    Raises `ConfigurationError` if there is none.
    """
    if given is not None:
        return guard_in(given).guard
    of_django = guards_of_django()
    if not of_django:
        raise ConfigurationError(
            "trusted(): pass the guard: there is no Django project with settings.BEARERGUARD"
        )
    return of_django[0].guard


def _chosen(guard: Guard, issuer: Issuer | str | None) -> Issuer:
    known = {each.url: each for each in guard.issuers}
    if issuer is None:
        if len(known) == 1:
            return guard.issuers[0]
        raise ConfigurationError(f"issuer=: the guard has several: choose from {_listed(known)}")
    url = issuer.url if isinstance(issuer, Issuer) else issuer
    if url not in known:
        raise ConfigurationError(
            f"issuer=: the guard does not trust {quoted(url)}: choose from {_listed(known)}"
        )
    return known[url]


def _tenant(issuer: Issuer, tenant: str | None) -> Issuer:
    """Return the issuer of a tenant; any other issuer as it is."""
    allowed = issuer.tenants
    if allowed is None:
        if tenant is not None:
            raise ConfigurationError(f"tenant=: {quoted(issuer.url)} has no tenants")
        return issuer
    if tenant is None:
        if callable(allowed) or len(allowed) > 1:
            raise ConfigurationError(f"tenant=: {quoted(issuer.url)} has several: choose one")
        (tenant,) = allowed
    if not (allowed(tenant) if callable(allowed) else tenant in allowed):
        raise ConfigurationError(f"tenant=: {quoted(issuer.url)} does not allow {quoted(tenant)}")
    return of_tenant(issuer, tenant)


def _standing_in(issuer: Issuer, clock: Clock) -> LocalIssuer:
    """Return a test issuer with the names, the places and the claims of a real one."""
    accepted = issuer.accepted_algorithms
    symmetric = issuer.shared_secret is not None
    usual = names.ACCESS_TOKEN_JWT
    local = LocalIssuer(
        issuer.url,
        audience=next(iter(issuer.audience)),
        algorithm=next((each for each in _PREFERRED if each in accepted), accepted[0]),
        secret=secrets.token_bytes(_SECRET_BYTES) if symmetric else None,
        token_type=usual if usual in issuer.accepted_types else issuer.token_types[0],
        claims=issuer.claims,
        jwks_uri=issuer.jwks_uri,
        discovery_url=issuer.discovery_url,
        clock=clock,
    )
    if issuer.introspection is not None:
        local.introspection.register(issuer.introspection)
    return local


def _trusting(issuer: Issuer, local: LocalIssuer) -> Issuer:
    """Return a real issuer with the keys of `local`; what it fetches is fetched from there."""
    changed: dict[str, Any] = {"local": None}
    if issuer.keys is not None:
        changed["keys"] = local.jwks()
    if issuer.shared_secret is not None:
        changed["shared_secret"] = local.key.private
    # A callable that returns a token may read a file, or fetch the token.
    if issuer.key_policy.token is not None:
        changed["key_policy"] = replace(issuer.key_policy, token=None)
    if issuer.introspection is not None and issuer.introspection.token is not None:
        token = local.introspection.access_token
        changed["introspection"] = replace(issuer.introspection, token=token)
    return replace(issuer, **changed)


def _options(guard: Guard, local: LocalIssuer) -> GuardOptions:
    """Return the options of a guard, without what shares state with other processes."""
    own = guard.options
    revocations = own.get("revocations")
    changed: GuardOptions = {
        "transport": OfTest(local, own.get("transport")),
        "clock": local.clock,
        "monotonic": None,
        "introspection_cache": None,
        "revocations": None
        if revocations is None
        else Revocations(max_token_life=revocations.max_token_life),
    }
    if revocations is None and any(each.local is not None for each in guard.issuers):
        changed["revocations"] = Revocations()  # as beside a server
    return {**own, **changed}


class OfTest:
    """A transport that reaches one test issuer, those of outer blocks, and nothing else."""

    def __init__(self, issuer: LocalIssuer, outer: Transport | None) -> None:
        self._issuer = issuer
        self._transport = issuer.transport()
        self._outer = outer if isinstance(outer, OfTest | InProcess) else None

    def fetch(self, request: Fetch) -> Response:
        """Return the response, in the calling thread."""
        return self._chosen(request).fetch(request)

    async def afetch(self, request: Fetch) -> Response:
        """Return the response, in the running event loop."""
        return await self._chosen(request).afetch(request)

    def _chosen(self, request: Fetch) -> Transport:
        if self._issuer.serves(request.url):
            return self._transport
        if self._outer is None:
            raise FetchFailed(
                f"{request.url}: not fetched in a test: inside trusted(), the guard reaches"
                f" {self._issuer.url} alone",
                kind="unreachable",
            )
        return self._outer


def _listed(known: dict[str, Issuer]) -> str:
    return ", ".join(map(quoted, known))
