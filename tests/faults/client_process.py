"""A process that calls as one client of several, which share an encrypted file.

python -m tests.faults.client_process call|renew|outage ISSUER FILE CLIENT_ID SECRET WIDTH

`call` prints READY when it holds a token; for each line that it is then given it sends WIDTH
requests at once, and prints their statuses. `renew` prints READY after a first renewal and then
renews until it is killed; it prints a line before each renewal and another after it.
`outage` is given a time of day in each line, prints ASKING, asks for a token at that time, and
prints it or the name of what was raised; its ISSUER is a token endpoint, its SECRET the first
refresh token.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import httpx2

from bearerguard.client import (
    AuthorizationCode,
    BearerAuth,
    ClientCredentials,
    RefreshToken,
    TokenManager,
)
from bearerguard.client.storages.encrypted_file import EncryptedFile
from bearerguard.client.storages.file_key import SecretKey
from bearerguard.errors import BearerGuardError

_KEY = b"a key of these tests, not a real one"


def storage(path: Path) -> EncryptedFile:
    return EncryptedFile(SecretKey(_KEY), path)


def robot(url: str, path: Path, client_id: str, secret: str) -> TokenManager:
    source = ClientCredentials(
        url, client_id=client_id, client_secret=secret, scopes="read", resources=url
    )
    return TokenManager(source, storage=storage(path))


def session(url: str, path: Path, client_id: str, secret: str) -> TokenManager:
    source = AuthorizationCode(
        url, client_id=client_id, client_secret=secret, scopes="read", resources=url
    )
    return TokenManager(source, storage=storage(path))


def call(manager: TokenManager, url: str, width: int) -> None:
    start = Barrier(width)
    limits = httpx2.Limits(max_connections=width)
    with (
        httpx2.Client(auth=BearerAuth(manager), timeout=30, limits=limits) as client,
        ThreadPoolExecutor(width) as pool,
    ):
        client.get(f"{url}/x").raise_for_status()
        print("READY", flush=True)
        for _ in sys.stdin:

            def send(_: int) -> int:
                start.wait()
                return client.get(f"{url}/x").status_code

            print(json.dumps(list(pool.map(send, range(width)))), flush=True)


def renew(manager: TokenManager) -> None:
    lease = manager.renew(manager.lease())
    print("READY", flush=True)
    while True:
        print("begin", flush=True)
        lease = manager.renew(lease)
        print("kept", flush=True)


def outage(url: str, path: Path, client_id: str, refresh_token: str) -> None:
    now = 0.0
    source = RefreshToken(
        token_endpoint=url,
        client_id=client_id,
        refresh_token=refresh_token,
        clock=lambda: now,
    )
    manager = TokenManager(source, storage=storage(path), clock=lambda: now, monotonic=lambda: now)
    print("READY", flush=True)
    for line in sys.stdin:
        now = float(line)
        print("ASKING", flush=True)
        try:
            print(manager.token().access_token, flush=True)
        except BearerGuardError as error:
            print(type(error).__name__, flush=True)


def main(action: str, url: str, path: str, client_id: str, *more: str) -> None:
    secret, width = more
    if action == "call":
        call(robot(url, Path(path), client_id, secret), url, int(width))
    elif action == "outage":
        outage(url, Path(path), client_id, secret)
    else:
        renew(session(url, Path(path), client_id, secret))


if __name__ == "__main__":
    main(*sys.argv[1:])
