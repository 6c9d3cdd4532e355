"""Passwords: argon2id (RFC 9106) in a bounded pool, so that many logins cannot exhaust the machine.

Knows no accounts. A check takes as long for an unknown user as for a known one.
"""

from __future__ import annotations

import base64
import os
import secrets
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import argon2

from bearerguard.errors import ConfigurationError, PasswordRejected, PasswordsBusy

T = TypeVar("T")

MIN_LENGTH = 12
MAX_LENGTH = 1024

_THREADS = 2  # each uses the memory that the parameters set: 64 MiB by default
# Calls that run or wait at once. Each blocks a thread of the web server, so the number is small.
PLACES = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password is right, and its new hash if the parameters have changed."""

    right: bool
    renewed: str | None = None


class Passwords:
    """Hashes and checks passwords.

    Args:
        parameters: argon2id's; by default the second recommended option of RFC 9106 §4.
        places: how many calls may run or wait at once; a further call raises `PasswordsBusy`.

    Raises:
        ConfigurationError: the parameters are not those of argon2id.
    """

    def __init__(
        self, parameters: argon2.Parameters | None = None, *, places: int = PLACES
    ) -> None:
        parameters = parameters or argon2.profiles.RFC_9106_LOW_MEMORY
        if parameters.type is not argon2.Type.ID:
            raise ConfigurationError("password_parameters=: pass parameters of type argon2id")
        self._hasher = argon2.PasswordHasher.from_parameters(parameters)
        self._unknown_hash = _unmatchable_hash(parameters)
        self._pool = _Pool(places)

    def hash(self, password: str) -> str:
        """Return the hash of a password, to store; raises `PasswordsBusy`."""
        return self._pool.run(lambda: self._hasher.hash(_octets(password)))

    def check(self, stored: str | None, password: str) -> Verdict:
        """Compare a password with a stored hash; None (an unknown user) never matches.

        Raises:
            PasswordsBusy: too many passwords are being hashed or checked.
        """
        return self._pool.run(lambda: self._checked(stored, password))

    def _checked(self, stored: str | None, password: str) -> Verdict:
        octets = _octets(password[:MAX_LENGTH])
        try:
            self._hasher.verify(stored or self._unknown_hash, octets)
        except argon2.exceptions.VerifyMismatchError:
            return Verdict(right=False)
        if stored is None or len(password) > MAX_LENGTH:
            return Verdict(right=False)
        if self._hasher.check_needs_rehash(stored):
            return Verdict(right=True, renewed=self._hasher.hash(octets))
        return Verdict(right=True)


def check_new(password: str, login: str) -> None:
    """Raise `PasswordRejected` for a password that is too easy to guess.

    The length matters; no mixture of character classes is required (NIST SP 800-63B).
    """
    if len(password) < MIN_LENGTH:
        raise PasswordRejected(f"The password needs at least {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise PasswordRejected(f"The password may have at most {MAX_LENGTH} characters")
    if len(set(password)) < 4 or login.casefold() in password.casefold():  # noqa: PLR2004 - four are few
        raise PasswordRejected(
            "The password must not contain the login name or repeat a few characters"
        )


class _Pool:
    """A bounded thread pool for each process: a forked child starts its own."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._workers = _Workers(places)

    def run(self, work: Callable[[], T]) -> T:
        workers = self._workers
        if workers.process != os.getpid():
            workers = self._workers = _Workers(self._places)
        if not workers.places.acquire(blocking=False):
            raise PasswordsBusy("too many passwords are being checked")
        try:
            return workers.executor.submit(work).result()
        finally:
            workers.places.release()


class _Workers:
    """The threads of a pool in one process; they start with the first job."""

    def __init__(self, places: int) -> None:
        self.process = os.getpid()
        self.executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="bearerguard-argon2")
        self.places = threading.BoundedSemaphore(places)


def _octets(password: str) -> bytes:
    # Systems encode the same letter differently, composed or decomposed.
    return unicodedata.normalize("NFC", password).encode("utf-8", "replace")


def _unmatchable_hash(parameters: argon2.Parameters) -> str:
    """Return a random hash with these parameters, which matches no known password."""

    def encoded(length: int) -> str:
        return base64.b64encode(secrets.token_bytes(length)).rstrip(b"=").decode()

    costs = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    salt, digest = encoded(parameters.salt_len), encoded(parameters.hash_len)
    return f"$argon2id$v={parameters.version}${costs}${salt}${digest}"
