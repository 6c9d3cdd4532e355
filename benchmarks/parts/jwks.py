"""How often an issuer is asked for its keys, and how soon a new key is accepted.

Counted against a real endpoint on loopback. Each scenario starts with a fresh verifier.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.jwks_endpoint import MAKERS, Accepts, Endpoint
from benchmarks.peers import PeerError, installed, left_out
from benchmarks.result import Result
from benchmarks.rounds import Effort
from benchmarks.token_issuer import TokenIssuer

OURS = "bearerguard"
_HERD = 100
_POLL_SECONDS = 0.1


def run(effort: Effort) -> Result:
    """Run all scenarios with each verifier."""
    kids, patience = (50, 0.5) if effort.quick else (1_000, 40.0)
    result = Result(
        "JWKS: fetches, and seconds until a rotated key is accepted",
        ("", f"{_HERD} cold at once", f"{kids:,} made-up kids", "500 for 100 requests", "rotation"),
    )
    issuer = TokenIssuer("ES256")
    # Made with a URL that is never fetched, only to see which are installed.
    made, missing = installed(
        {name: partial(make, issuer, "http://127.0.0.1:9/jwks") for name, make in MAKERS.items()}
    )
    present = list(made)
    rotations = asyncio.run(_all_rotations(issuer, present, patience))
    for name in present:
        herd = asyncio.run(_herd(name, issuer))
        more = asyncio.run(_made_up_kids(name, issuer, kids))
        outage, seconds = asyncio.run(_outage(name, issuer))
        rotation = rotations[name]
        result.row(
            name,
            str(herd),
            f"{more} more",
            f"{outage} in {seconds:.2f} s",
            f"more than {patience:.1f} s" if rotation is None else f"{rotation:.1f} s",
        )
        for figure, value in (
            ("herd", herd),
            ("made-up kids", more),
            ("outage", outage),
            ("outage seconds", seconds),
            ("rotation seconds", rotation),
        ):
            result.keep(name, figure, value=value)
        if name == OURS:
            result.reached |= {"T6 herd": herd, "T6 kids": more, "T6 outage": outage}
            # One that was not accepted in that time took at least that long.
            result.reached["T6 rotation"] = patience if rotation is None else rotation
    result.notes += left_out(missing)
    return result


async def _herd(name: str, issuer: TokenIssuer) -> int:
    endpoint = Endpoint(issuer, delay=0.1)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_HERD))
    with endpoint.serve() as url:
        accepts = MAKERS[name](issuer, url)
        tokens = [endpoint.token() for _ in range(_HERD)]
        if not all(await asyncio.gather(*map(accepts, tokens))):
            raise PeerError(f"{name} refuses good tokens that come at once")
    return endpoint.fetches


async def _made_up_kids(name: str, issuer: TokenIssuer, count: int) -> int:
    endpoint = Endpoint(issuer)
    with endpoint.serve() as url:
        accepts = await _warmed(name, endpoint, url)
        for _ in range(count):
            if await accepts(endpoint.token(uuid.uuid4().hex)):
                raise PeerError(f"{name} accepts a token with a made-up kid")
    return endpoint.fetches - 1


async def _outage(name: str, issuer: TokenIssuer) -> tuple[int, float]:
    endpoint = Endpoint(issuer, failing=True)
    with endpoint.serve() as url:
        accepts = MAKERS[name](issuer, url)
        token = endpoint.token()
        begin = time.perf_counter()
        for _ in range(100):
            if await accepts(token):
                raise PeerError(f"{name} accepts a token without having its key")
    return endpoint.fetches, time.perf_counter() - begin


async def _all_rotations(
    issuer: TokenIssuer, names: list[str], patience: float
) -> dict[str, float | None]:
    found = await asyncio.gather(*(_rotation(name, issuer, patience) for name in names))
    return dict(zip(names, found, strict=True))


async def _rotation(name: str, issuer: TokenIssuer, patience: float) -> float | None:
    endpoint = Endpoint(issuer)
    with endpoint.serve() as url:
        accepts = await _warmed(name, endpoint, url)
        endpoint.rotate()
        begin = time.perf_counter()
        while time.perf_counter() - begin < patience:
            if await accepts(endpoint.token()):
                return time.perf_counter() - begin
            await asyncio.sleep(_POLL_SECONDS)
    return None


async def _warmed(name: str, endpoint: Endpoint, url: str) -> Accepts:
    """Return a verifier that has the keys."""
    accepts = MAKERS[name](endpoint.issuer, url)
    if not await accepts(endpoint.token()):
        raise PeerError(f"{name} refuses a good token")
    return accepts
