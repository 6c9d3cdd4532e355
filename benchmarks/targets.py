"""The targets: T1 to T8 and those of the other parts, and whether the measured medians meet them.

They are printed; no test asserts a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """The largest value that a figure may have, or with `floor` the smallest."""

    name: str
    description: str
    bound: float
    unit: str = "×"
    floor: bool = False

    def is_met(self, reached: float) -> bool:
        """Whether a figure meets the bound."""
        return reached >= self.bound if self.floor else reached <= self.bound


def _verify(name: str, build: str, bounds: Mapping[str, float]) -> list[Target]:
    return [
        Target(f"{name} {algorithm}", f"cold verify, {build}, {algorithm}", bound, "× raw")
        for algorithm, bound in bounds.items()
    ]


def _served(name: str, description: str) -> list[Target]:
    return [
        Target(
            f"{name} {of}", f"warm under uvicorn, {description}, of {whose} rate", bound, floor=True
        )
        for of, whose, bound in (("bare", "the bare app's", 0.9), ("PyJWT", "PyJWT's", 5.0))
    ]


TARGETS: tuple[Target, ...] = (
    Target("T1 plain", "warm ASGI request, nothing added to the response", 2.0, "F"),
    Target("T1 headers", "warm ASGI request, both expiry headers added", 3.0, "F"),
    Target("T2", "warm WSGI request, both expiry headers added", 2.0, "F"),
    *_verify(
        "T3",
        "core dependencies",
        {"RS256": 1.95, "PS256": 1.85, "ES256": 1.37, "EdDSA": 1.2, "HS256": 6.6},
    ),
    *_verify(
        "T4", "[speed]", {"RS256": 1.75, "PS256": 1.7, "ES256": 1.25, "EdDSA": 1.15, "HS256": 5.6}
    ),
    *_served("T5 plain", "nothing added"),
    *_served("T5 headers", "three headers added"),
    Target("T6 herd", "JWKS fetches for 100 cold concurrent requests", 1, "fetches"),
    Target("T6 kids", "further JWKS fetches for 1000 made-up kids", 3, "fetches"),
    Target("T6 outage", "JWKS fetches in one back-off, endpoint answering 500", 1, "fetches"),
    Target("T6 rotation", "until a rotated key is accepted", 1.0, "s"),
    Target("T7", "memory per cached token, 100 000 tokens", 1024, "B"),
    Target("T8", "import bearerguard, of its crypto dependency alone", 1.2, "×"),
    # The bare import is lazy: what an application uses must meet the bound as well.
    Target("T8 used", "import its Guard and Issuer, of the same", 1.3, "×"),
    Target("Scale issuers", "warm request, 10 000 issuers against 1", 1.1, "×"),
    Target("Scale tokens", "warm request, most cached tokens against 1000", 1.1, "×"),
    Target("Client httpx2", "BearerAuth, warm request, over a fixed header, httpx2", 5.0, "µs"),
    Target("Client httpx", "the same for httpx", 5.0, "µs"),
    Target("Client requests", "the same for requests", 5.0, "µs"),
    Target("Eviction", "unique tokens against a full cache, of an empty one", 1.1, "×"),
)


def _tokens() -> Iterator[Target]:
    """The targets of the server's parts, on each engine."""
    for engine, workers in (("sqlite", 1.0), ("postgresql", 1.2)):
        for of, bound in (
            ("credentials ES256", 1.5),
            ("credentials RS256", 1.0),
            ("refresh ES256", 0.6),
        ):
            what = f"{of} on {engine}, 2 workers, of oidc-provider's in memory"
            yield Target(f"Tokens {of} {engine}", what, bound, floor=True)
        for name, peer in (("authlib", "Authlib"), ("django", "django-oauth-toolkit")):
            what = f"each operation on {engine}, of {peer}'s on the same"
            yield Target(f"Tokens {name} {engine}", what, 3.0, floor=True)
        what = f"each operation on {engine}, 2 workers, of 1 worker's"
        yield Target(f"Tokens workers {engine}", what, workers, floor=True)
        what = f"latency on {engine} with 1,000,000 grants, of that with 1,000"
        yield Target(f"Grants {engine}", what, 1.2)
        what = f"start on {engine} with 1,000,000 grants"
        yield Target(f"Start {engine}", what, 2.0, "s")
    what = "refreshes on PostgreSQL in a second of processor time, its own included"
    yield Target("Tokens refresh core", what, 240, "/s", floor=True)


# Of the parts that are run only when they are named.
SERVER_TARGETS: tuple[Target, ...] = tuple(_tokens())
ALL_TARGETS: tuple[Target, ...] = (*TARGETS, *SERVER_TARGETS)
