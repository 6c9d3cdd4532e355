"""A process that works on a shared storage: counts, or writes versions until it is killed."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from bearerguard.client.storages.encrypted_file import EncryptedFile, InsecurePlaintextFile
from bearerguard.client.storages.file_key import SecretKey
from bearerguard.client.storages.keyring import KeyringStorage
from bearerguard.client.storages.storage import Storage

SECRET = b"0123456789abcdef0123456789abcdef"


def storage(kind: str, path: Path) -> Storage:
    if kind == "encrypted":
        return EncryptedFile(SecretKey(SECRET), path)
    if kind == "plaintext":
        return InsecurePlaintextFile(path)
    return KeyringStorage(locks=path.parent, service=f"bearerguard test {path}")


def version(number: int) -> bytes:
    """Return a value that shows whether it is whole."""
    body = str(number).encode() * (number % 400 + 1)
    return body + hashlib.sha256(body).digest()


def is_whole(value: bytes) -> bool:
    return hashlib.sha256(value[:-32]).digest() == value[-32:]


def count(kept: Storage, times: int) -> None:
    """Add to the number under `n`, by comparing and swapping alone."""
    won = lost = 0
    while won < times:
        before = kept.load("n")
        if kept.swap("n", before, str(int(before or 0) + 1).encode()):
            won += 1
        else:
            lost += 1
    print(lost)


def rewrite(kept: Storage) -> None:
    """Write one version after another, and say which is there; until killed."""
    number = 0
    while True:
        number += 1
        assert kept.swap("v", kept.load("v"), version(number))
        print(number, flush=True)


if __name__ == "__main__":
    action, chosen, place, times = sys.argv[1:]
    if action == "count":
        count(storage(chosen, Path(place)), int(times))
    else:
        rewrite(storage(chosen, Path(place)))
