"""The configuration file of the server's commands, and the file with the server's secret."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bearerguard import Request
from bearerguard.cli import app
from bearerguard.cli.server import serve as serving
from bearerguard.server import AuthorizationServer, Scope, SigningKeys

ISSUER = "http://127.0.0.1:8123"
SECRET = "a secret of this test's own that is long enough"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[AuthorizationServer]:
    """The servers that `serve` would have run: it returns where it would begin to listen."""
    servers: list[AuthorizationServer] = []

    def keep(server: AuthorizationServer, *others: Any, **_: Any) -> None:
        servers.append(server)
        sockets: list[socket.socket] = others[-1]
        for each in sockets:
            each.close()

    monkeypatch.setattr(serving, "_run", keep)
    return servers


def run(*arguments: str, **environ: str) -> Any:
    variables = {"BEARERGUARD_SERVER_SECRET": SECRET} | environ
    given = {name: value or None for name, value in variables.items()}
    return CliRunner().invoke(app, arguments, env=given)


def made() -> None:
    """Make the store of a server."""
    signing = SigningKeys(algorithm="ES256")
    AuthorizationServer(ISSUER, store="sqlite:///auth.db", secret=SECRET, signing=signing).close()


def write(folder: Path, text: str, name: str = "bearerguard.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def usable(folder: Path, more: str = "") -> str:
    return write(
        folder,
        f'issuer = "{ISSUER}"\nstore = "sqlite:///auth.db"\nport = 0\nalgorithm = "ES256"\n{more}',
    )


def test_serve_takes_its_options_from_the_file(
    folder: Path, started: list[AuthorizationServer]
) -> None:
    more = """
access-token-lifetime = 120
accept-endpoint-audiences = true
resource = ["https://api.example.com", "https://b.example.com"]
trusted-issuer = ["https://token.example.com"]
[scope]
read = "Read your recordings"
"""
    result = run("serve", "--config", usable(folder, more))
    assert result.exit_code == 0, result.output
    settings = started[0].settings
    assert settings.issuer == ISSUER
    assert settings.lifetimes.access_token == 120
    assert settings.accept_endpoint_audiences is True
    assert [each.identifier for each in settings.resources] == [
        "https://api.example.com",
        "https://b.example.com",
    ]
    assert settings.scopes == {"read": "Read your recordings"}
    assert "workload_identity" in started[0].authentication_methods


def test_the_pages_are_branded_by_the_file(
    folder: Path, started: list[AuthorizationServer]
) -> None:
    (folder / "logo.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"></svg>')
    more = """
site-name = "Field Recordings"
logo = "logo.svg"
color = "#0b6e4f"
color-dark = "#7fe0b8"
powerful-scopes = ["delete"]
[scopes]
read = "Read your recordings"
delete = "Delete your recordings"
"""
    result = run("serve", "--config", usable(folder, more))
    assert result.exit_code == 0, result.output
    (server,) = started
    assert server.settings.scopes == {
        "read": "Read your recordings",
        "delete": Scope("Delete your recordings", powerful=True),
    }
    page = server.handle(Request("GET", "/oauth/login")).body.decode()
    assert "to your account at Field Recordings" in page
    assert '<img class="logo" src="data:image/svg+xml;base64,' in page
    assert "--accent: #0b6e4f" in page
    assert "--accent: #7fe0b8" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--color", "#ffcc00"], "--color: #ffcc00 and #f4f5f8 have a contrast of 1.4"),
        (["--color", "green"], "--color: 'green' is no color: write it as #rrggbb"),
        (["--color-dark", "#101010"], "--color-dark: #101010 and "),
        (["--logo", "nowhere.png"], "--logo: nowhere.png cannot be read"),
        (["--site-name", ""], "--site-name: pass a name of one line"),
        (["--powerful-scope", "delete"], "--powerful-scope: the server has no scope 'delete'"),
    ],
)
def test_branding_that_cannot_be_used_names_the_option_and_the_remedy(
    folder: Path, arguments: list[str], said: str
) -> None:
    result = run("serve", "--config", usable(folder), *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_trusted_issuer_of_serve_must_be_safe(folder: Path) -> None:
    result = run("serve", "--config", usable(folder), "--trusted-issuer", "http://idp.example.com")
    assert result.exit_code == 2
    assert "--trusted-issuer" in result.output


def test_an_option_wins_over_a_variable_and_a_variable_over_the_file(
    folder: Path, started: list[AuthorizationServer]
) -> None:
    path = usable(
        folder,
        "code-lifetime = 10\nkey-lifetime = 864000\nrefresh-grace = 3\n"
        'scope = ["read=Of the file"]\n',
    )
    result = run(
        *("serve", "--code-lifetime", "30"),
        BEARERGUARD_SERVER_CONFIG=path,
        BEARERGUARD_SERVER_CODE_LIFETIME="20",
        BEARERGUARD_SERVER_REFRESH_GRACE="4",
        BEARERGUARD_SERVER_SCOPES="read=Of the variable",
    )
    assert result.exit_code == 0, result.output
    settings = started[0].settings
    assert settings.lifetimes.code == 30
    assert settings.lifetimes.refresh_grace == 4
    assert settings.signing.lifetime == 864000
    assert settings.scopes == {"read": "Of the variable"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acces-token-lifetime = 3", "access-token-lifetime is meant"),
        ("acces_token_lifetime = 3", "access-token-lifetime is meant"),
        ("resourcs = []", "resources is meant"),
        ("port = 70000", "port: Input should be less than or equal to 65535"),
        ('log-format = "xml"', "log-format: "),
        ('scope = ["a=A"]\n[scopes]\nb = "B"', "scopes: this option is given as scope too"),
        ("code-lifetime = 3\ncode_lifetime = 4", "code_lifetime: this option is given as code-"),
        ("flavour = 3", "there is no such option: there are accept-endpoint-audiences, "),
        ('config = "another.toml"', "there is no such option"),
        ('port = "80"', "port: pass a whole number"),
        ("port = true", "port: pass a whole number"),
        ('code-lifetime = "long"', "code-lifetime: pass a number"),
        ("issuer = 3", "issuer: pass a text"),
        ("insecure-allow-http = 1", "insecure-allow-http: pass true or false"),
        ('resource = "https://api.example.com"', "resource: pass a list of texts"),
        ("scope = [1]", "scope: pass a list of texts"),
        (
            '[scope.delete]\ndescription = "Delete"\npowerful = true',
            "scope: pass each scope with its description as text; name the powerful ones in",
        ),
        ('host = "127.0.0.1"\nport = ', "is not TOML: Invalid value (at end of document"),
        ('host = "127.0.0.1"\nport 8000', "is not TOML: Expected '=' after a key in a key/value"),
        (f'secret = "{SECRET}"', "set BEARERGUARD_SERVER_SECRET, or name a file with secret-file"),
        (f'revocations-secret = "{SECRET}"', "set BEARERGUARD_SERVER_REVOCATIONS_SECRET"),
        (
            'store = "postgresql://auth:hunter[22@db.example.com/auth"',
            "`chmod 600` the file, or set BEARERGUARD_SERVER_STORE",
        ),
        (
            'store = "postgresql://auth:hunter22@db.example.com/auth"',
            "`chmod 600` the file, or set BEARERGUARD_SERVER_STORE",
        ),
        (
            'store = "postgresql://db.example.com/auth?password=hunter22"',
            "`chmod 600` the file, or set BEARERGUARD_SERVER_STORE",
        ),
        (
            'revocations = "rediss://:hunter22@cache.example.com"',
            "`chmod 600` the file, or set BEARERGUARD_SERVER_REVOCATIONS_STORE",
        ),
    ],
)
@pytest.mark.parametrize("command", [("serve",), ("keys", "list")])
def test_a_file_with_a_wrong_name_a_wrong_value_or_a_secret_is_refused(
    folder: Path, text: str, said: str, command: tuple[str, ...]
) -> None:
    result = run(*command, "--config", write(folder, text))
    assert result.exit_code == 2
    assert said in result.stderr
    assert "bearerguard.toml" in result.stderr
    for each in (SECRET, "hunter22"):
        assert each not in result.output
    assert [each.name for each in folder.iterdir()] == ["bearerguard.toml"], "nothing was begun"


def test_a_file_that_cannot_be_read_is_refused(folder: Path) -> None:
    result = run("serve", "--config", str(folder / "nowhere.toml"))
    assert result.exit_code == 2
    assert "--config: " in result.stderr
    assert "nowhere.toml cannot be read" in result.stderr


def test_the_commands_beside_serve_take_the_store_and_the_issuer_from_the_same_file(
    folder: Path,
) -> None:
    path = usable(folder, 'scope = ["read=See"]\n')
    made()
    callback = ("--redirect-uri", "https://a.example/cb")
    added = run("client", "add", "App", *callback, "--json", "--config", path)
    assert added.exit_code == 0, added.output
    assert not json.loads(added.stdout)["scopes"], "a client's --scope is another than serve's"
    assert run("user", "list", "--config", path).exit_code == 0
    listed = run("keys", "list", "--json", BEARERGUARD_SERVER_CONFIG=path)
    assert listed.exit_code == 0, listed.output
    assert len(json.loads(listed.stdout)) == 1
    revoked = run("revoke", "--grant", "unknown", "--config", path)
    assert "no such grant" in revoked.stderr
    assert "--config" in run("client", "list", "-h").stdout


def test_the_secret_may_be_in_a_file_that_an_option_a_variable_or_the_file_names(
    folder: Path, started: list[AuthorizationServer]
) -> None:
    (folder / "secret").write_text(SECRET + "\n")
    (folder / "secret").chmod(0o440)
    own = {"BEARERGUARD_SERVER_SECRET": ""}
    plain = usable(folder)
    assert run("serve", "--config", plain, "--secret-file", "secret", **own).exit_code == 0
    named = write(folder, Path(plain).read_text() + 'secret-file = "secret"\n', "named.toml")
    assert run("serve", "--config", named, **own).exit_code == 0
    variables = own | {"BEARERGUARD_SERVER_SECRET_FILE": "secret"}
    assert run("keys", "rotate", "--config", plain, **variables).exit_code == 0
    # The same secret as the text in the variable: it opens the keys.
    assert run("serve", "--config", named).exit_code == 0
    assert len(started) == 3
    assert all(each.health()["ready"] for each in started)
    assert not (folder / "auth.db.secret").exists()


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o620, 0o602])
def test_a_secret_file_that_everybody_can_read_or_the_group_can_change_is_refused(
    folder: Path, mode: int
) -> None:
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(mode)
    result = run(
        *("serve", "--config", usable(folder), "--secret-file", "secret"),
        BEARERGUARD_SERVER_SECRET="",
    )
    assert result.exit_code == 2
    assert "chmod 640" in result.stderr


START = """
from bearerguard import ConfigurationError
from bearerguard.server import AuthorizationServer, SigningKeys
try:
    signing = SigningKeys(algorithm="ES256")
    print(AuthorizationServer("http://127.0.0.1", store="sqlite:////run/auth.db", signing=signing))
except ConfigurationError as error:
    print(error)
"""


def started_in_a_container(script: str, tmp_path: Path) -> str:
    """Start a server as root of a namespace, after a script has mounted its secret, `$KEY`."""
    (tmp_path / "key").write_text(SECRET)
    if os.geteuid() == 0:
        os.chown(tmp_path / "key", 10_001, 10_001)
    (tmp_path / "key").chmod(0o664)
    run = 'export BEARERGUARD_SERVER_SECRET_FILE="$KEY"\nexec "$@"'
    shell = f"set -e\nmount -t tmpfs tmpfs /run\nmkdir /run/secrets\n{script}\n{run}"
    namespace = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell)
    result = subprocess.run(
        [*namespace, "sh", sys.executable, "-c", START],
        env=os.environ | {"HOST": str(tmp_path / "key"), "SECRET": SECRET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


DOCKER = """
KEY=/run/secrets/key; printf %s "$SECRET" >$KEY; chmod 444 $KEY
"""
BIND = """
touch $KEY; mount --bind "$HOST" $KEY
"""
READ_ONLY = "mount -o remount,bind,ro $KEY"
COMPOSE = "KEY=/run/secrets/key" + BIND
KUBERNETES = """
mkdir /run/volume; mount -t tmpfs tmpfs /run/volume; mkdir /run/volume/..1; KEY=/run/volume/key
printf %s "$SECRET" >/run/volume/..1/key; ln -s ..1 /run/volume/..data; ln -s ..data/key $KEY
chmod 644 $KEY
"""


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(DOCKER, id="Docker"),
        pytest.param(COMPOSE + READ_ONLY, id="Compose"),
        pytest.param(KUBERNETES + "mount -o remount,ro /run/volume", id="Kubernetes"),
    ],
)
def test_a_secret_is_accepted_as_containers_have_it(script: str, tmp_path: Path) -> None:
    assert started_in_a_container(script, tmp_path).startswith("AuthorizationServer(")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(DOCKER + "chmod 666 $KEY", id="written by all"),
        pytest.param(COMPOSE, id="mounted to be written"),
        pytest.param(KUBERNETES, id="in memory, to be written"),
        # As what all users of the host can read, such as the store of NixOS.
        pytest.param("KEY=/run/key; HOST=/etc/passwd" + BIND + READ_ONLY, id="on a disk"),
        pytest.param("KEY=/run/key" + BIND + READ_ONLY, id="of somebody else"),
    ],
)
def test_what_only_resembles_a_secret_of_a_container_is_refused(
    script: str, tmp_path: Path
) -> None:
    said = started_in_a_container(script, tmp_path)
    assert re.search(r"secret file /run/\S+ (can be read by every|belongs to another) user", said)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "cannot be read (FileNotFoundError)"),
        (lambda path: path.mkdir(), "cannot be read (IsADirectoryError)"),
        (os.mkfifo, "is no plain file"),
        (lambda path: (path.write_text(" \n"), path.chmod(0o600)), "is empty"),
        (lambda path: (path.write_text("short"), path.chmod(0o600)), "is not usable"),
    ],
)
def test_a_secret_file_without_a_secret_is_refused(folder: Path, make: Any, said: str) -> None:
    make(folder / "secret")
    result = run(
        *("serve", "--config", usable(folder), "--secret-file", "secret"),
        BEARERGUARD_SERVER_SECRET="",
    )
    assert result.exit_code == 2
    assert "BEARERGUARD_SERVER_SECRET_FILE" in result.stderr
    assert said in result.stderr


def test_a_secret_and_a_file_with_one_are_not_both_accepted(folder: Path) -> None:
    (folder / "secret").write_text(SECRET)
    result = run("serve", "--config", usable(folder), "--secret-file", "secret")
    assert result.exit_code == 2
    assert "are both set" in result.stderr


@pytest.mark.parametrize(
    "names", [("resources", "scopes", "trusted-proxies"), ("resource", "scope", "trusted_proxy")]
)
def test_a_list_has_the_name_of_its_option_or_of_its_variable(
    folder: Path, started: list[AuthorizationServer], names: tuple[str, str, str]
) -> None:
    resources, scopes, proxies = names
    more = (
        f'{resources} = ["https://api.example.com"]\n{proxies} = ["10.0.0.0/8"]\n'
        f'access_token_lifetime = 120\n[{scopes}]\nread = "Read your recordings"\n'
    )
    result = run("serve", "--config", usable(folder, more))
    assert result.exit_code == 0, result.output
    settings = started[0].settings
    assert [each.identifier for each in settings.resources] == ["https://api.example.com"]
    assert settings.scopes == {"read": "Read your recordings"}
    assert settings.lifetimes.access_token == 120
    # The proxies are read too: a wrong one is refused.
    wrong = run("serve", "--config", usable(folder, f'{proxies} = ["everybody"]\n'))
    assert (wrong.exit_code, "--trusted-proxy" in wrong.stderr) == (2, True)


def test_a_line_that_is_not_utf_8_is_named(folder: Path) -> None:
    (folder / "latin.toml").write_bytes(b'host = "127.0.0.1"\nissuer = "\xe9"\n')
    result = run("serve", "--config", "latin.toml")
    assert result.exit_code == 2
    assert "latin.toml is not TOML: line 2 is not UTF-8" in result.stderr


@pytest.mark.parametrize(("mode", "refused"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_others_cannot_read_may_have_a_password_in_a_url(
    folder: Path, mode: int, *, refused: bool
) -> None:
    path = write(folder, 'store = "postgresql://auth:hunter22@127.0.0.1:1/auth"')
    Path(path).chmod(mode)
    result = run("keys", "list", "--config", path)
    assert result.exit_code != 0, "there is no such database"
    assert ("chmod 600" in result.stderr) == refused
    assert ("127.0.0.1:1/auth" in result.stderr) != refused, "it was asked"
    assert "hunter22" not in result.output


@pytest.mark.parametrize("separator", ["\n", " , ", ",\n\n"])
def test_a_secret_file_has_several_secrets_one_a_line_or_separated_by_commas_the_newest_first(
    folder: Path, separator: str
) -> None:
    own = {"BEARERGUARD_SERVER_SECRET": ""}
    newer = "another secret of this test that is long enough"
    made()
    path = usable(folder, 'secret-file = "secret"\n')
    (folder / "secret").write_text(f"{newer}{separator}{SECRET}\n")
    (folder / "secret").chmod(0o600)
    old_key = run("keys", "rotate", "--immediately", "--config", path, **own)
    assert old_key.exit_code == 0, old_key.output
    # The newest secret sealed the new key: the server starts with it alone, not with the older.
    for text, code in ((newer, 0), (SECRET, 2)):
        (folder / "secret").write_text(text)
        assert run("keys", "rotate", "--config", path, **own).exit_code == code


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_secret_file_of_another_user_is_refused(folder: Path) -> None:
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    os.chown(folder / "secret", 65534, 65534)
    path = usable(folder, 'secret-file = "secret"\n')
    result = run("serve", "--config", path, BEARERGUARD_SERVER_SECRET="")
    assert result.exit_code == 2
    assert "belongs to another user (uid 65534): `chown` it" in result.stderr


def test_a_store_is_copied_and_migrated_with_the_secret_of_the_file(folder: Path) -> None:
    own = {"BEARERGUARD_SERVER_SECRET": ""}
    made()
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    path = usable(folder, 'secret-file = "secret"\n')
    assert run("store", "migrate", "--config", path, **own).exit_code == 0
    copy = ("store", "copy", "sqlite:///auth.db", "sqlite:///copy.db")
    refused = run(*copy, **own)
    assert "BEARERGUARD_SERVER_SECRET is not set" in refused.stderr
    copied = run(*copy, "--config", path, **own)
    assert copied.exit_code == 0, copied.output
    assert (folder / "copy.db").exists()


def test_the_file_of_the_documentation_is_one(
    folder: Path, started: list[AuthorizationServer]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    path = write(folder, block)
    here = ("--store", "sqlite:///auth.db", "--host", "127.0.0.1", "--port", "0", "--workers", "1")
    result = run("serve", "--config", path, *here)
    assert result.exit_code == 0, result.output
    settings = started[0].settings
    assert settings.issuer == "https://id.example.com"
    assert settings.lifetimes.access_token == 900
    assert settings.scopes == {"read": "See your recordings", "write": "Add recordings"}
