"""Storages by name: the built-in ones, and those that others add."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from bearerguard import ConfigurationError
from bearerguard.cli.client import client_options
from bearerguard.client import (
    EncryptedFile,
    InsecurePlaintextFile,
    MemoryStorage,
    named_storage,
    register_storage,
    storage_names,
)


def test_the_built_in_storages_have_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEARERGUARD_CLIENT_HOME", str(tmp_path))
    monkeypatch.setenv("BEARERGUARD_CLIENT_STORAGE_KEY", secrets.token_hex(32))
    assert {"keyring", "file", "keyring-file", "insecure-plaintext"} <= {*storage_names()}
    assert isinstance(named_storage("file"), EncryptedFile)
    assert isinstance(named_storage("insecure-plaintext"), InsecurePlaintextFile)


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no storage 'valut': choose one of .*keyring"):
        named_storage("valut")


def test_a_storage_is_registered_once() -> None:
    name, storage = f"memory {secrets.token_hex(4)}", MemoryStorage()
    register_storage(name, lambda: storage)
    assert named_storage(name) is storage
    with pytest.raises(ConfigurationError, match="registered already"):
        register_storage(name, MemoryStorage)


def test_an_installed_package_brings_its_storage_to_the_command_line(tmp_path: Path) -> None:
    """Its entry point is loaded when its name is asked for, in a program that never imports it."""
    (tmp_path / "vault.py").write_text("from bearerguard.client import MemoryStorage as Vault\n")
    metadata = tmp_path / "vault-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vault\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[bearerguard.storages]\nvault = vault:Vault\n")
    program = (
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from bearerguard.client import named_storage, storage_names\n"
        "print('vault' in storage_names(), 'vault' in sys.modules)\n"
        "print(type(named_storage('vault')).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False\nMemoryStorage\n"


def test_the_commands_know_a_registered_storage() -> None:
    name, storage = f"memory-{secrets.token_hex(4)}", MemoryStorage()
    register_storage(name, lambda: storage)
    assert client_options.named_storage(name) is storage
    assert client_options.probed_storage(name)[:2] == (storage, name)
    with pytest.raises(ConfigurationError, match=rf"--storage: choose one of auto, .*{name}"):
        client_options.named_storage("valut")
