"""Misconfigurations of the command line: the arguments, and what standard error must say."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from bearerguard.cli import app
from tests.misconfigurations.at_start import SECRET

ADD = ("client", "add", "App")
LOGIN = ("login", "--client-id", "a")
METADATA = "https://id.example.com/.well-known/openid-configuration"

COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "login at an http issuer": (
        (*LOGIN, "http://id.example.com"),
        ("URL: 'http://id.example.com'", "use https"),
    ),
    "login at metadata": (
        (*LOGIN, METADATA),
        ("pass the issuer itself, 'https://id.example.com'",),
    ),
    "login at a host name": (
        (*LOGIN, "id.example.com"),
        ("URL:", "write 'https://id.example.com'"),
    ),
    "serve an http issuer": (
        ("serve", "--issuer", "http://id.example.com"),
        ("--issuer:", "or pass --insecure-allow-http"),
    ),
    "serve metadata": (("serve", "--issuer", METADATA), ("--issuer:", "pass the issuer itself")),
    "certificates without a proxy": (
        ("serve", "--issuer", "https://id.example.com", "--mutual-tls", "nginx"),
        ("--mutual-tls:", "by --trusted-proxy"),
    ),
    "certificates of the connection itself": (
        ("serve", "--issuer", "https://id.example.com", "--mutual-tls", "tls"),
        ("--mutual-tls:", "choose how it writes the certificate"),
    ),
    "personal tokens without scopes": (
        ("serve", "--issuer", "https://id.example.com", "--personal-tokens"),
        ("--personal-tokens:", "--scope"),
    ),
    "private_key_jwt without keys": (
        (*ADD, "--auth-method", "private_key_jwt"),
        ("--jwks:", "pass --jwks"),
    ),
    "grants of nobody": (
        ("grants", "revoke"),
        ("name the grants", "--user and --user-id, or --client"),
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
    "misspelt name in the configuration file": (
        ("serve", "--config", "misspelt.toml"),
        ("misspelt.toml: isuer:", "issuer is meant"),
    ),
    "text for a number in the configuration file": (
        ("serve", "--config", "text.toml"),
        ("text.toml: port:", "pass a whole number"),
    ),
    "configuration file that is not TOML": (
        ("serve", "--config", "unparsed.toml"),
        ("--config:", "unparsed.toml is not TOML", "line 2"),
    ),
    "secret in the configuration file": (
        ("serve", "--config", "secret.toml"),
        ("secret.toml: secret:", "set BEARERGUARD_SERVER_SECRET, or name a file with secret-file"),
    ),
    "password in a configuration file that others can read": (
        ("serve", "--config", "password.toml"),
        ("password.toml: store:", "`chmod 600` the file, or set BEARERGUARD_SERVER_STORE"),
    ),
    "secret in the environment and in a file": (
        ("serve", "--issuer", "http://127.0.0.1:1", "--secret-file", "secret"),
        ("BEARERGUARD_SERVER_SECRET and BEARERGUARD_SERVER_SECRET_FILE", "remove one"),
    ),
}
# The files that arguments name; each is readable for everybody.
_FILES = {
    "misspelt.toml": 'isuer = "https://id.example.com"\n',
    "text.toml": 'port = "8000"\n',
    "unparsed.toml": 'issuer = "https://id.example.com"\nport 8000\n',
    "secret.toml": f'secret = "{SECRET}"\n',
    "password.toml": f'store = "postgresql://auth:{SECRET}@db.example.com/auth"\n',
    "secret": SECRET,
}


def ended(arguments: tuple[str, ...], folder: Path) -> tuple[int, str]:
    """Run a command with a store and a home in `folder`; return its code and standard error."""
    environment = {
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{folder}/auth.db",
        "BEARERGUARD_SERVER_SECRET": "s" * 32,
        "BEARERGUARD_HOME": str(folder),
        "COLUMNS": "300",
    }
    given = [str(folder / each) if each in _FILES else each for each in arguments]
    for each in given:
        if Path(each).parent == folder:
            Path(each).write_text(_FILES[Path(each).name])
            Path(each).chmod(0o644)
    result = CliRunner().invoke(app, given, env=environment)
    return result.exit_code, result.stderr
