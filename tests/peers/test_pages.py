"""The server's pages in Chromium: how they look, and that their answers reach the app.

`BEARERGUARD_PICTURES` names a directory where the screenshots are written, for review.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.peers.conftest import HERE
from tests.processes import free_port, program

# One worker runs them all: what the browser has seen is seen once.
pytestmark = pytest.mark.xdist_group("pages")

USER, PASSWORD = "ada", "correct horse battery"
PAGES = (
    *("login", "wrong", "throttled", "consent", "many", "more", "signed-in", "signed-out"),
    *("error", "astray", "unknown", "start"),
)
MANY = ("read", "write", "delete", *(f"shelf-{number}" for number in range(1, 38)))
APPEARANCES = ("light", "dark", "phone", "phone-dark")
# Known to tests.peers.pages_app, too.
HTTPS_APP = "https://web.example.com/callback"
NATIVE_APP = "com.example.app:/cb"


class _App(BaseHTTPRequestHandler):
    """An app's own server: the callback sends the browser on to another of its hosts."""

    def do_GET(self) -> None:
        onward = self.path.startswith("/callback") and "web.example.com" in self.headers["Host"]
        self.send_response(302 if onward else 200)
        if onward:
            query = urlsplit(self.path).query
            self.send_header("Location", f"https://home.example.com/done?{query}")
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"" if onward else b"<title>app</title>Welcome back")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Say nothing."""


@contextmanager
def app(context: ssl.SSLContext | None = None) -> Generator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _App) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def certificate(folder: Path) -> ssl.SSLContext:
    """A certificate that nobody signed; the browser is set to accept it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.com")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "app.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem + made.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def browsed(plan: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "pages.mjs", json.dumps(plan)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("BEARERGUARD_PICTURES")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> dict[str, Any]:
    """What the browser has seen."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    if shutil.which("node") is None or not (HERE / "node_modules" / "playwright-core").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    environ = {"ORIGIN": origin, "STORE": f"sqlite:///{folder}/auth.db"}
    command = [sys.executable, "-m", "uvicorn", "tests.peers.pages_app:app", "--port", str(port)]
    with (
        app() as loopback,
        app(certificate(folder)) as https,
        program(command, cwd=HERE.parent.parent, environ=environ) as running,
    ):
        running.wait_for_port(port)
        callback = f"http://127.0.0.1:{loopback}/callback"
        link = f"{origin}/oauth/authorize?response_type=code&state=s%20t&scope=read+write"
        link += "&code_challenge_method=S256&code_challenge=" + "E" * 42 + "M"
        return browsed(
            {
                "chromium": chromium,
                "hosts": f"MAP *.example.com:443 127.0.0.1:{https}",
                "origin": origin,
                "links": {
                    "notes": f"{link}&client_id=notes&redirect_uri={callback}",
                    "web": f"{link}&client_id=web&redirect_uri={HTTPS_APP}",
                    "native": f"{link}&client_id=native&redirect_uri={NATIVE_APP}",
                    "broken": f"{link}&client_id=nobody",
                    "many": link.replace("read+write", "+".join(MANY)) + "&client_id=many",
                    "more": link.replace("read+write", "read+write+openid+delete")
                    + f"&client_id=web&redirect_uri={HTTPS_APP}",
                    "astray": f"{link}&client_id=web&redirect_uri=https://elsewhere.example/",
                },
                "user": USER,
                "password": PASSWORD,
                "pictures": str(pictures),
                "wrongs": 30,
            }
        )


def query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_no_page_has_an_accessibility_problem(seen: dict[str, Any]) -> None:
    assert seen["violations"] == []
    for name in PAGES:
        for appearance in APPEARANCES:
            checked = seen["looks"][f"{name} {appearance}"]["checked"]
            assert {"color-contrast", "document-title", "html-has-lang"} <= set(checked)
    assert "label" in seen["looks"]["login phone"]["checked"]


def test_no_page_is_wider_than_a_phone_and_what_is_pressed_is_high_enough(
    seen: dict[str, Any],
) -> None:
    for name, look in seen["looks"].items():
        assert not look["tooWide"], name
        assert look["smallest"] is None or look["smallest"] >= 44, name


def test_the_pages_follow_the_reader_into_the_dark(seen: dict[str, Any]) -> None:
    light, dark = (seen["looks"][f"login {each}"]["background"] for each in ("light", "dark"))
    assert light == "rgb(242, 244, 248)"
    assert dark == "rgb(15, 19, 27)"


def test_every_page_says_what_it_is(seen: dict[str, Any]) -> None:
    titles = {name: seen["looks"][f"{name} light"]["title"] for name in PAGES}
    assert len(set(titles.values())) == len(PAGES)
    assert titles["wrong"].startswith("Error: ")
    assert titles["consent"].startswith("Field Notes asks for access")


def test_AZ_06_without_scripts_and_by_keyboard_an_app_gets_its_code(seen: dict[str, Any]) -> None:
    answer = query(seen["flows"]["allowed"])
    assert answer["code"]
    assert answer["state"] == "s t"


def test_AZ_04_denial_reaches_the_app(seen: dict[str, Any]) -> None:
    answer = query(seen["flows"]["denied"])
    assert answer["error"] == "access_denied"
    assert "code" not in answer


@pytest.mark.parametrize("flow", ["handed on to another host", "remembered"])
def test_the_policy_lets_an_app_send_the_browser_on(seen: dict[str, Any], flow: str) -> None:
    assert seen["flows"][flow].startswith("https://home.example.com/done?")
    assert query(seen["flows"][flow])["code"]


def test_the_browser_finds_no_fault_with_the_policy(seen: dict[str, Any]) -> None:
    assert [line for line in seen["console"] if "ecurity" in line or "violat" in line] == []


def test_another_account_is_asked_for_the_same_app(seen: dict[str, Any]) -> None:
    assert seen["flows"]["switched"] == "Field Notes asks for access to your account"


def test_a_guesser_is_told_when_to_come_again(seen: dict[str, Any]) -> None:
    assert re.search(
        r"There were too many attempts\. Try again in \d+ (seconds|minutes)\.",
        seen["flows"]["throttled"],
    )


def test_the_pictures_are_there_to_be_looked_at(seen: dict[str, Any], pictures: Path) -> None:
    assert seen["looks"]
    for name in PAGES:
        for appearance in APPEARANCES:
            assert (pictures / f"{name}-{appearance}.png").stat().st_size > 5000
