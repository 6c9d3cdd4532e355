"""What every storage keeps to, the keyring's pieces, and which storage is chosen."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from pathlib import Path

import keyring
import pytest
from keyring.backends import chainer, fail, null

from bearerguard.client.storages.default import default_storage
from bearerguard.client.storages.encrypted_file import EncryptedFile, InsecurePlaintextFile
from bearerguard.client.storages.environment import EnvironmentStorage
from bearerguard.client.storages.file_key import KEY_VARIABLE, SecretKey
from bearerguard.client.storages.keyring import KeyringStorage
from bearerguard.client.storages.state_directory import state_directory
from bearerguard.client.storages.storage import MemoryStorage, Storage
from bearerguard.client.token import Token
from bearerguard.errors import StorageError
from tests.client.ring import DictKeyring

KINDS = ["memory", "encrypted file", "plaintext file", "keyring"]


def made(kind: str, folder: Path, lock_timeout: float) -> Storage:
    """Return a storage whose files are in `folder`."""
    path = folder / "state" / "tokens"
    if kind == "memory":
        return MemoryStorage(lock_timeout=lock_timeout)
    if kind == "encrypted file":
        key = SecretKey(secrets.token_bytes(32))
        return EncryptedFile(key, path, lock_timeout=lock_timeout)
    if kind == "plaintext file":
        return InsecurePlaintextFile(path, lock_timeout=lock_timeout)
    return KeyringStorage(backend=DictKeyring(), locks=path.parent, lock_timeout=lock_timeout)


@pytest.fixture(params=KINDS)
def storage(request, tmp_path) -> Storage:
    return made(request.param, tmp_path, lock_timeout=30)


def test_a_value_is_kept_replaced_and_cleared_by_who_knows_it(storage):
    assert storage.load("a") is None
    assert not storage.swap("a", b"1", b"2")
    assert storage.swap("a", None, b"1")
    assert not storage.swap("a", None, b"2")
    assert storage.swap("a", b"1", b"2")
    assert storage.swap("a", b"2", b"2")
    assert storage.load("a") == b"2"
    assert not storage.swap("a", b"1", None)
    assert storage.keys() == ["a"]
    assert storage.swap("a", b"2", None)
    assert storage.swap("a", None, None)
    assert storage.keys() == []


def test_a_probe_leaves_nothing_behind(storage):
    storage.probe()
    assert storage.keys() == []


@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_at_a_time_holds_the_lock_of_a_key(kind, tmp_path):
    storage = made(kind, tmp_path, lock_timeout=0.2)
    held = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with storage.locked("a"):
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    try:
        with pytest.raises(StorageError, match=r"holds (this|the) lock"), storage.locked("a"):
            pass
        with storage.locked("b"):
            pass
    finally:
        done.set()
        thread.join()
    with storage.locked("a"):
        pass


def test_threads_that_swap_at_once_lose_nothing(storage):
    def count() -> None:
        for _ in range(10):
            while True:
                before = storage.load("n")
                if storage.swap("n", before, str(int(before or 0) + 1).encode()):
                    break

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.load("n") == b"40"


def test_what_is_kept_shows_in_no_repr(storage):
    storage.swap("a", None, b"very secret token")
    assert "secret token" not in repr(storage) + storage.name


class Forgetful(DictKeyring):
    """Accepts every entry and stores none, as a null backend by another name would."""

    def set_password(self, service, username, password):
        pass


def test_a_probe_finds_out_a_keyring_that_keeps_nothing(tmp_path):
    with pytest.raises(StorageError, match="does not give back what it was given"):
        KeyringStorage(backend=Forgetful(), locks=tmp_path / "state").probe()


@pytest.mark.parametrize("kind", [fail.Keyring, null.Keyring, chainer.ChainerBackend])
def test_backends_that_keep_nothing_are_refused_by_name(kind, tmp_path):
    with pytest.raises(StorageError, match=rf"{kind.__module__}.*use an encrypted file"):
        KeyringStorage(backend=kind(), locks=tmp_path)


@pytest.mark.parametrize("name", ["file.PlaintextKeyring", "pyfs.PlaintextKeyring"])
def test_backends_that_keep_plaintext_are_refused_by_name(name, tmp_path):
    module, _, kind = f"keyrings.alt.{name}".rpartition(".")
    plain = type(kind, (DictKeyring,), {"__module__": module})
    with pytest.raises(StorageError, match=f"a plaintext file .keyrings.alt.{name}"):
        KeyringStorage(backend=plain(), locks=tmp_path)


def test_a_locked_keyring_is_an_error_that_says_to_unlock_it(tmp_path):
    ring = DictKeyring()
    storage = KeyringStorage(backend=ring, locks=tmp_path / "state")
    storage.swap("a", None, b"1")
    ring.locked = True
    for action in (storage.probe, lambda: storage.load("a"), storage.keys):
        with pytest.raises(StorageError, match=r"KeyringLocked.*unlock it"):
            action()


def short_pieces(ring: DictKeyring) -> DictKeyring:
    """Have a keyring that is taken for Windows' own, whose entries are short."""
    kind = type("WinVaultKeyring", (DictKeyring,), {"__module__": "keyring.backends.Windows"})
    short: DictKeyring = kind(longest=1280)
    short.entries = ring.entries
    return short


def test_a_long_token_is_kept_in_pieces_that_the_keyring_holds(tmp_path):
    ring = short_pieces(DictKeyring())
    storage = KeyringStorage(backend=ring, locks=tmp_path / "state")
    long = secrets.token_bytes(10_000)
    assert storage.swap("a", None, long)
    assert storage.load("a") == long
    assert len(ring.entries) > 10
    assert storage.swap("a", long, b"short")
    assert len(ring.entries) == 2


def test_a_writer_that_dies_between_any_two_writes_leaves_one_version_or_the_other(tmp_path):
    ring = short_pieces(DictKeyring())
    storage = KeyringStorage(backend=ring, locks=tmp_path / "state")
    old, new = secrets.token_bytes(4_000), secrets.token_bytes(6_000)
    storage.swap("a", None, old)
    seen: Counter[bool] = Counter()
    for writes in range(100):
        kept = dict(ring.entries)
        ring.writes_left = writes
        try:
            storage.swap("a", old, new)
            break
        except StorageError:
            ring.writes_left = 10**9
            found = storage.load("a")
            seen[found == new] += 1
            assert found in {old, new}
            ring.entries.clear()
            ring.entries.update(kept)
    assert seen[False] > 5
    assert seen[True] > 2


def test_damage_in_a_keyring_is_reported_and_left_as_it_is(tmp_path):
    ring = short_pieces(DictKeyring())
    storage = KeyringStorage(backend=ring, locks=tmp_path / "state")
    storage.swap("a", None, bytes(4_000))
    good = dict(ring.entries)
    for place, text in good.items():
        for spoilt in ("", text[:-8], "!" + text[1:], text.replace("AA", "AB", 1) + "{"):
            ring.entries[place] = spoilt
            bad = dict(ring.entries)
            with pytest.raises(StorageError, match="damaged"):
                storage.load("a")
            if place[1] == "tokens":
                with pytest.raises(StorageError, match="damaged"):
                    storage.swap("a", None, b"1")
            assert ring.entries == bad
        ring.entries[place] = text
    head = good["bearerguard", "tokens"]
    ring.entries["bearerguard", "tokens"] = head.replace('"version": 1', '"version": 2')
    with pytest.raises(StorageError, match="newer version"):
        storage.load("a")
    ring.entries["bearerguard", "tokens"] = head.replace('"turn": 0', '"turn": 7')
    with pytest.raises(StorageError, match="damaged"):
        storage.load("a")


def test_a_token_of_the_environment_is_read_and_never_replaced(monkeypatch):
    storage = EnvironmentStorage("SOME_TOKEN")
    monkeypatch.delenv("SOME_TOKEN", raising=False)
    assert storage.load("a") is None
    monkeypatch.setenv("SOME_TOKEN", " abc\n")
    with storage.locked("a"):
        found = storage.load("a")
        assert found is not None
        assert Token.from_bytes(found) == Token("abc")
    assert storage.keys() == ()
    for action in (storage.probe, lambda: storage.swap("a", b"abc", None)):
        with pytest.raises(StorageError, match=r"read-only.*set SOME_TOKEN"):
            action()
    assert "abc" not in repr(storage) + storage.name


@pytest.fixture
def chosen(monkeypatch, tmp_path):
    """Set the backend that the keyring library is configured with, and the user's directory."""
    monkeypatch.setenv("BEARERGUARD_CLIENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


def test_a_keyring_that_works_is_chosen(chosen):
    chosen(DictKeyring())
    choice = default_storage()
    assert choice.storage.name == "keyring (tests.client.ring.DictKeyring)"
    assert choice.reason == "the keyring works"


def test_without_a_keyring_an_encrypted_file_is_chosen_and_the_reason_said(chosen):
    chosen(fail.Keyring())
    choice = default_storage(passphrase="correct horse")
    assert "encrypted file" in choice.storage.name
    assert "no keyring of the operating system can be reached" in choice.reason


def test_a_key_in_the_environment_asks_for_the_file_whatever_keyring_there_is(chosen, monkeypatch):
    chosen(DictKeyring())
    monkeypatch.setenv(KEY_VARIABLE, secrets.token_hex(32))
    choice = default_storage()
    assert str(state_directory() / "tokens") in choice.storage.name
    assert choice.reason == f"{KEY_VARIABLE} is set"


def test_without_a_safe_place_the_remedies_are_named(chosen):
    chosen(fail.Keyring())
    with pytest.raises(StorageError, match=f"no safe place for tokens.*set {KEY_VARIABLE}"):
        default_storage()


def test_the_users_directory_follows_the_conventions(monkeypatch, tmp_path):
    monkeypatch.delenv("BEARERGUARD_CLIENT_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_directory() == tmp_path / ".local" / "state" / "bearerguard"
    monkeypatch.setenv("XDG_STATE_HOME", "/var/x")
    assert str(state_directory()) == "/var/x/bearerguard"
