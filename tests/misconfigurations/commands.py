"""Misconfigurations of the command line: the arguments, and what standard error must say."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from bearerguard.cli import app

ADD = ("client", "add", "App")
LOGIN = ("login", "--client-id", "a")
METADATA = "https://id.example.com/.well-known/openid-configuration"

COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "login at an http issuer": (
        (*LOGIN, "http://id.example.com"),
        ("ISSUER: 'http://id.example.com'", "use https"),
    ),
    "login at metadata": (
        (*LOGIN, METADATA),
        ("pass the issuer itself, 'https://id.example.com'",),
    ),
    "login at a host name": (
        (*LOGIN, "id.example.com"),
        ("ISSUER:", "write 'https://id.example.com'"),
    ),
    "serve an http issuer": (
        ("serve", "--issuer", "http://id.example.com"),
        ("--issuer:", "or pass --insecure-allow-http"),
    ),
    "serve metadata": (("serve", "--issuer", METADATA), ("--issuer:", "pass the issuer itself")),
    "private_key_jwt without keys": (
        (*ADD, "--auth-method", "private_key_jwt"),
        ("--jwks:", "pass --jwks"),
    ),
    "redirect URI with a wildcard": (
        (*ADD, "--redirect-uri", "https://*.example.com/cb"),
        ("--redirect-uri:", "register each URI"),
    ),
    "redirect URI with http": (
        (*ADD, "--redirect-uri", "http://app.example.com/cb"),
        ("--redirect-uri:", "use https"),
    ),
    "public client without a redirect URI": (
        (*ADD, "--public"),
        ("--redirect-uri:", "pass the URIs to which users are sent back"),
    ),
    "public client with client_credentials": (
        (*ADD, "--public", "--grant-type", "client_credentials"),
        ("--grant-type:", "no credentials"),
    ),
    "store as a file name": (
        (*ADD, "--store", "auth.db"),
        ("--store:", '"sqlite:///auth.db"'),
    ),
    "keys that are no file": ((*ADD, "--jwks", "missing.json"), ("--jwks:", "cannot be read")),
}


def ended(arguments: tuple[str, ...], folder: Path) -> tuple[int, str]:
    """Run a command with a store and a home in `folder`; return its code and standard error."""
    environment = {
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{folder}/auth.db",
        "BEARERGUARD_SERVER_SECRET": "s" * 32,
        "BEARERGUARD_HOME": str(folder),
        "COLUMNS": "300",
    }
    result = CliRunner().invoke(app, arguments, env=environment)
    return result.exit_code, result.stderr
