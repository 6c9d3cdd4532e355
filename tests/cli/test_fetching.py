"""What commands say and how they end when a server cannot be asked, and what they send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bearerguard.cli import app
from bearerguard.client.storages.environment import TOKEN_VARIABLE
from bearerguard.client.storages.state_directory import VARIABLE as HOME_VARIABLE
from bearerguard.runtime.messages import Request, Response
from bearerguard.testing.loopback import serving
from tests.raw_servers import certificate, over_tls, raw_server

__all__ = ["certificate"]  # a fixture


def run(home: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    """Run a command in this process: a new one takes a second to start."""
    env = {HOME_VARIABLE: str(home), **environ}
    done = CliRunner().invoke(app, arguments, env=env, catch_exceptions=False)
    return done.exit_code, done.output


def login(home: Path, issuer: str, **environ: str) -> tuple[int, str]:
    options = ("--client-id", "app", "--device", "--storage", "insecure-plaintext")
    return run(home, "login", issuer, *options, **environ)


def test_FETCH_01_D26_the_exit_code_says_try_later_only_where_that_may_help(
    tmp_path: Path, certificate: Path
) -> None:
    code, said = login(tmp_path, "https://nowhere.invalid")
    assert (code, "unknown host 'nowhere.invalid'" in said) == (1, True)
    with raw_server(over_tls(certificate, lambda _: None), reads=False) as url:
        place = url[:-5].replace("http:", "https:")
        code, said = login(tmp_path, place)
        assert (code, "the certificate is self-signed" in said) == (1, True)
        code, said = run(tmp_path, "call", place, **{TOKEN_VARIABLE: "t"})
        assert (code, "the certificate is self-signed" in said) == (1, True)
    with serving(lambda _: Response(503)) as url:
        gone = url
        assert login(tmp_path, url)[0] == 75
    code, said = login(tmp_path, gone)
    assert (code, "the connection was refused" in said) == (75, True)
    code, said = run(tmp_path, "call", gone, **{TOKEN_VARIABLE: "t"})
    assert (code, "the connection was refused" in said) == (75, True)
    with serving(lambda _: Response(200, body=b"<!doctype html><html>")) as url:
        code, said = login(tmp_path, url)
        assert (code, "not JSON but HTML" in said) == (1, True)


@pytest.mark.parametrize("slash", ["", "/", "/realm", "/realm/"])
def test_C15_an_issuer_is_taken_as_it_is_typed(tmp_path: Path, slash: str) -> None:
    seen: list[Request] = []
    where: list[str] = []

    def respond(request: Request) -> Response:
        seen.append(request)
        about = {
            "issuer": where[0] + slash,
            "token_endpoint": where[0] + "/token",
            "device_authorization_endpoint": where[0] + "/device",
        }
        asked = {"device_code": "d", "user_code": "A-B", "expires_in": 60, "interval": 1}
        asked["verification_uri"] = where[0] + "/activate"
        token = {"access_token": "t", "token_type": "Bearer", "expires_in": 60}
        said = {"/device": asked, "/token": token}.get(request.url, about)
        return Response(200, (), json.dumps(said).encode())

    headers = "User-Agent: MyCli/1.0 (a, b)\n\nX-Api-Key: k3y"
    with serving(respond) as url:
        where.append(url)
        other = slash.rstrip("/") if slash.endswith("/") else slash + "/"
        code, said = login(tmp_path, url + other)
        assert (code, "differs only by the final /" in said) == (1, True)
        code, said = login(tmp_path, url + slash, BEARERGUARD_CLIENT_FETCH_HEADERS=headers)
        assert code == 0, said
        assert f"Logged in to {url}{slash}" in said
        assert "k3y" not in said
    assert seen[-1].values(b"user-agent") == [b"MyCli/1.0 (a, b)"]
    assert seen[-1].values(b"x-api-key") == [b"k3y"]
    assert seen[0].values(b"user-agent")[0].startswith(b"bearerguard/")


def test_C24_headers_that_cannot_be_sent_end_the_command(tmp_path: Path) -> None:
    name = "BEARERGUARD_CLIENT_FETCH_HEADERS"
    for given in ("k3y", "Host: k3y"):
        code, said = login(tmp_path, "https://id.example", **{name: given})
        assert (code, name in said, "k3y" in said) == (2, True, False)


def test_a_variable_that_looks_like_a_slip_is_refused_with_the_name_that_is_meant(
    tmp_path: Path,
) -> None:
    for slip, meant in (
        ("BEARERGUARD_CLIENT_STORGE", "BEARERGUARD_CLIENT_STORAGE"),
        ("BEARERGUARD_CLIENT_FETCH_HEADER", "BEARERGUARD_CLIENT_FETCH_HEADERS"),
    ):
        code, said = run(tmp_path, "token", **{slip: "x"})
        assert code == 2
        assert f"{slip}: there is no such setting: {meant} is meant" in said
