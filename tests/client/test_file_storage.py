"""The encrypted file: what it refuses, what it survives, and who may open it."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bearerguard.client.storages.encrypted_file import EncryptedFile, InsecurePlaintextFile
from bearerguard.client.storages.file_key import (
    KEY_VARIABLE,
    FileKey,
    KeyringKey,
    PassphraseKey,
    SecretKey,
    environment_key,
)
from bearerguard.client.storages.keyring import Keyring
from bearerguard.errors import ConfigurationError, StorageError
from tests.client.ring import DictKeyring

SECRET = secrets.token_bytes(32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens"


def opened(path: Path, key: FileKey | None = None) -> EncryptedFile:
    return EncryptedFile(key or SecretKey(SECRET), path, lock_timeout=0.1)


def test_what_was_kept_is_there_for_the_next_process(path):
    assert opened(path).swap("a", None, b"token of a")
    assert opened(path).swap("b", None, b"\x00\xff")
    assert opened(path).load("a") == b"token of a"
    assert opened(path).keys() == ["a", "b"]
    assert opened(path).swap("a", b"token of a", None)
    assert opened(path).keys() == ["b"]


def test_neither_tokens_nor_their_keys_stand_in_the_file(path):
    opened(path).swap("https://id.example.com", None, b"very secret token")
    octets = path.read_bytes()
    assert b"secret token" not in octets
    assert b"example" not in octets


def test_only_the_owner_gets_at_the_file(path):
    opened(path).swap("a", None, b"1")
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in path.parent.iterdir()} == {0o600}


def test_a_swap_with_another_expectation_changes_nothing(path):
    storage = opened(path)
    assert storage.swap("a", None, b"1")
    assert not storage.swap("a", None, b"2")
    assert not storage.swap("a", b"0", b"2")
    assert not storage.swap("a", b"0", None)
    assert storage.load("a") == b"1"


def test_another_key_is_distinguished_from_damage_and_changes_nothing(path):
    opened(path).swap("a", None, b"1")
    before = path.read_bytes()
    other = opened(path, SecretKey(secrets.token_bytes(32)))
    for action in (lambda: other.load("a"), lambda: other.swap("a", None, b"2"), other.probe):
        with pytest.raises(StorageError, match="encrypted with another key"):
            action()
    assert path.read_bytes() == before


def test_another_kind_of_key_is_named(path):
    opened(path).swap("a", None, b"1")
    with pytest.raises(StorageError, match="with a given key, not with a passphrase"):
        opened(path, PassphraseKey("correct horse")).load("a")


def test_a_damaged_file_is_reported_and_left_as_it_is(path):
    opened(path).swap("a", None, b"1")
    good = path.read_bytes()
    for position in range(len(good)):
        bad = good[:position] + bytes((good[position] ^ 1,)) + good[position + 1 :]
        path.write_bytes(bad)
        with pytest.raises(StorageError):
            opened(path).load("a")
        with pytest.raises(StorageError):
            opened(path).swap("b", None, b"2")
        assert path.read_bytes() == bad
    path.write_bytes(good)
    assert opened(path).load("a") == b"1"


def test_a_file_cut_short_anywhere_is_reported(path):
    opened(path).swap("a", None, b"1")
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(StorageError):
            opened(path).load("a")
        with pytest.raises(StorageError):
            opened(path).swap("a", None, b"2")


def test_a_file_of_a_newer_version_asks_for_an_upgrade(path):
    opened(path).swap("a", None, b"1")
    octets = bytearray(path.read_bytes())
    octets[len(b"bearerguard")] = 2
    path.write_bytes(octets)
    with pytest.raises(StorageError, match="newer version of bearerguard: upgrade"):
        opened(path).load("a")


def test_a_link_in_place_of_the_file_is_refused(path, tmp_path):
    opened(path).swap("a", None, b"1")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="symbolic link"):
        opened(path).load("a")


def test_a_link_in_place_of_the_directory_is_refused(path, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    path.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="symbolic link"):
        opened(path).swap("a", None, b"1")


@pytest.mark.parametrize("place", ["file", "directory", "lock"])
def test_what_others_may_read_is_refused_with_the_remedy(path, place):
    opened(path).swap("a", None, b"1")
    lock = path.parent / "tokens.lock"
    spoilt = {"file": path, "directory": path.parent, "lock": lock}[place]
    spoilt.chmod(0o755 if place == "directory" else 0o644)
    with pytest.raises(StorageError, match=rf"run `chmod [67]00 {spoilt}`"):
        opened(path).swap("a", b"1", b"2")


def test_a_directory_for_all_users_is_refused_without_advice_to_change_its_mode(path):
    path.parent.mkdir()
    path.parent.chmod(0o1777)
    with pytest.raises(StorageError, match="a directory of your own in it"):
        opened(path).probe()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_is_refused(path):
    opened(path).swap("a", None, b"1")
    os.chown(path, 65534, 65534)
    with pytest.raises(StorageError, match="belongs to another user"):
        opened(path).load("a")


def test_a_pipe_in_place_of_the_file_is_refused_at_once(path):
    opened(path).probe()
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(StorageError, match="not a regular file"):
        opened(path).load("a")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="the directory cannot be created"):
        opened(tmp_path / "file" / "state" / "tokens").probe()


def test_a_directory_in_place_of_a_file_is_named(path):
    path.mkdir(parents=True, mode=0o700)
    path.parent.chmod(0o700)
    with pytest.raises(StorageError, match="not a regular file"):
        opened(path).load("a")


def test_a_full_disk_is_an_error_and_loses_nothing(path):
    opened(path).swap("a", None, b"1")
    script = f"""
import resource, signal
from pathlib import Path
from bearerguard.client.storages.encrypted_file import EncryptedFile
from bearerguard.client.storages.file_key import SecretKey
from bearerguard.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    EncryptedFile(SecretKey({SECRET!r}), Path({str(path)!r})).swap("b", None, bytes(1000))
except StorageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "could not be written (File too large) and is unchanged" in done.stdout
    assert opened(path).keys() == ["a"]
    assert not path.with_name("tokens.new").exists()


def test_a_probe_leaves_what_is_kept_alone(path):
    storage = opened(path)
    storage.probe()
    assert storage.keys() == []
    storage.swap("a", None, b"1")
    storage.probe()
    assert storage.keys() == ["a"]


def test_a_lock_that_is_held_ends_the_wait_with_an_error(path):
    with (
        opened(path).locked("a"),
        pytest.raises(StorageError, match="another process holds this lock"),
        opened(path).locked("a"),
    ):
        pass


def test_keys_are_locked_one_by_one_and_changed_inside(path):
    with opened(path).locked("a"), opened(path).locked("b"):
        assert opened(path).swap("a", None, b"1")
        assert opened(path).load("a") == b"1"
    with opened(path).locked("a"):
        pass


def test_a_forked_child_does_not_keep_a_lock_of_its_parent(path):
    lives, born = os.pipe()
    with opened(path).locked("a"):
        child = os.fork()
        if child == 0:
            os.write(born, b"!")
            signal.pause()
    try:
        assert os.read(lives, 1) == b"!"
        with opened(path).locked("a"):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(lives)
        os.close(born)


def test_a_passphrase_opens_what_it_closed_and_another_does_not(path):
    opened(path, PassphraseKey("correct horse")).swap("a", None, b"1")
    asked: list[str] = []

    def ask() -> str:
        asked.append("asked")
        return "correct horse"

    storage = opened(path, PassphraseKey(ask))
    assert storage.load("a") == b"1"
    assert storage.swap("a", b"1", b"2")
    assert asked == ["asked"]
    with pytest.raises(StorageError, match="cannot be opened with a passphrase"):
        opened(path, PassphraseKey("battery staple")).load("a")


def test_a_passphrase_too_short_for_a_new_file_is_refused(path):
    with pytest.raises(ConfigurationError, match="fewer than 8 characters"):
        PassphraseKey("short")
    with pytest.raises(ConfigurationError, match="fewer than 8 characters"):
        opened(path, PassphraseKey(lambda: "short")).probe()


def test_the_key_may_come_from_the_environment(path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, secrets.token_hex(32))
    opened(path, environment_key()).swap("a", None, b"1")
    assert opened(path, environment_key()).load("a") == b"1"
    monkeypatch.setenv(KEY_VARIABLE, "short")
    with pytest.raises(ConfigurationError, match="too short for a key"):
        environment_key()
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(ConfigurationError, match="is not set"):
        environment_key()


def test_the_key_may_be_kept_in_a_keyring_and_is_not_made_anew_when_it_is_lost(path):
    ring = DictKeyring()
    opened(path, KeyringKey(Keyring(ring))).swap("a", None, b"1")
    assert opened(path, KeyringKey(Keyring(ring))).load("a") == b"1"
    with pytest.raises(StorageError, match="no longer has the key"):
        opened(path, KeyringKey(Keyring(DictKeyring()))).load("a")


def test_a_secret_shows_in_no_repr(path):
    key = SecretKey("s" * 40)
    assert "sss" not in repr(key)
    assert "horse" not in repr(PassphraseKey("correct horse"))
    assert str(path) in repr(opened(path, key))


def test_plaintext_is_kept_only_by_its_unsafe_name_and_says_so(path):
    storage = InsecurePlaintextFile(path)
    storage.probe()
    assert storage.swap("a", None, b"1")
    assert storage.load("a") == b"1"
    assert "PLAINTEXT" in storage.name
    path.write_text("[]")
    with pytest.raises(StorageError, match="not a list of tokens"):
        storage.load("a")
    for text in ('{"a": "!"}', '{"a": 1}', "[" * 9999):
        path.write_text(text)
        with pytest.raises(StorageError, match="not a list of tokens"):
            storage.load("a")
    with path.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    with pytest.raises(StorageError, match="too large for a file of tokens"):
        storage.load("a")


def test_the_secret_of_a_file_is_renewed_by_a_list_the_newest_first(path):
    new, third = (secrets.token_bytes(32) for _ in range(2))
    opened(path).swap("a", None, b"1")
    renewing = EncryptedFile(SecretKey([new, SECRET]), path)
    assert renewing.load("a") == b"1"
    renewing.swap("b", None, b"2")
    # From the first change on, it is encrypted with the newest.
    assert EncryptedFile(SecretKey(new), path).load("a") == b"1"
    for others in (SECRET, [third, SECRET]):
        with pytest.raises(StorageError, match="encrypted with another key"):
            EncryptedFile(SecretKey(others), path).load("a")


def test_the_environments_key_is_renewed_likewise(path, monkeypatch):
    old, new = (secrets.token_hex(32) for _ in range(2))
    EncryptedFile(SecretKey(old), path).swap("a", None, b"1")
    monkeypatch.setenv("KEYS", f"{new},{old}")
    EncryptedFile(environment_key("KEYS"), path).swap("b", None, b"2")
    monkeypatch.setenv("KEYS", new)
    assert EncryptedFile(environment_key("KEYS"), path).load("a") == b"1"
    monkeypatch.setenv("KEYS", f" {new} , {secrets.token_hex(32)} ")  # spaces mean nothing
    assert EncryptedFile(environment_key("KEYS"), path).load("a") == b"1"
    monkeypatch.setenv("KEYS", f"{new},short")
    with pytest.raises(ConfigurationError, match="KEYS is too short"):
        environment_key("KEYS")
