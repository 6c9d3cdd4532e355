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
from importlib.util import module_from_spec, spec_from_file_location
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
    *("error", "astray", "unknown", "start", "demo", "upstreams", "upstream-failure"),
)
MANY = ("read", "write", "delete", *(f"shelf-{number}" for number in range(1, 38)))
APPEARANCES = ("light", "dark", "phone", "phone-dark")
# Known to tests.peers.pages_app, too.
HTTPS_APP = "https://web.example.com/callback"
LOGO = """<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">
<circle cx="12" cy="12" r="11" fill="#0b6e4f"/><script>document.title = "run"</script></svg>"""
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


def demo_page(folder: Path) -> str:
    """Write the page of the demo's app; return its URL."""
    spec = spec_from_file_location("demo_page", HERE.parent.parent / "scripts" / "demo_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    file = folder / "demo.html"
    file.write_text(module.page("CODE=bgc_x", worked=True))
    return file.as_uri()


def browsed(plan: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "pages.mjs", json.dumps(plan)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=600,
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
    other = free_port()
    branded = f"http://127.0.0.1:{other}"
    (folder / "logo.svg").write_text(LOGO)
    brand = {"ORIGIN": branded, "STORE": f"sqlite:///{folder}/branded.db"}
    brand |= {"LOGO": str(folder / "logo.svg")}
    third = free_port()
    elsewhere = f"http://127.0.0.1:{third}"
    more = {"ORIGIN": elsewhere, "STORE": f"sqlite:///{folder}/elsewhere.db"}
    more |= {"UPSTREAM": "http://127.0.0.1:9"}
    with (
        app() as loopback,
        app(certificate(folder)) as https,
        program(command, cwd=HERE.parent.parent, environ=environ) as running,
        program([*command[:-1], str(other)], cwd=HERE.parent.parent, environ=brand) as too,
        program([*command[:-1], str(third)], cwd=HERE.parent.parent, environ=more) as three,
    ):
        running.wait_for_port(port)
        too.wait_for_port(other)
        three.wait_for_port(third)
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
                "elsewhere": {
                    "link": f"{link.replace(origin, elsewhere)}&client_id=notes"
                    f"&redirect_uri={callback}",
                    "button": "Continue with Wetlands Ornithological Society",
                },
                "wall": {"client_id": "wall", "scope": " ".join(MANY[:20])},
                "demo": demo_page(folder),
                "branded": branded,
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
    for name in PAGES:
        light, dark = (seen["looks"][f"{name} {each}"]["background"] for each in ("light", "dark"))
        assert light == "rgb(244, 245, 248)", name
        assert dark == "rgb(14, 18, 25)", name


def test_every_page_says_what_it_is(seen: dict[str, Any]) -> None:
    titles = {name: seen["looks"][f"{name} light"]["title"] for name in PAGES}
    # The same page with another problem, or for another request.
    for same, first in (
        *(("throttled", "wrong"), ("more", "consent"), ("astray", "error")),
        ("upstreams", "login"),
    ):
        assert titles.pop(same).partition(" · ")[0] == titles[first].partition(" · ")[0]
    assert len(set(titles.values())) == len(titles)
    assert titles["wrong"].startswith("Error: ")
    assert titles["consent"].startswith("Field Notes asks for access")


def test_a_logo_is_drawn_and_an_operators_colors_are_easy_to_read(
    seen: dict[str, Any],
) -> None:
    """The policy lets the picture be loaded; the first test found no fault with the contrast."""
    assert seen["flows"]["logo"] == [True, 24]
    backgrounds = [seen["looks"][f"branded {each}"]["background"] for each in ("light", "dark")]
    assert backgrounds == ["rgb(243, 241, 236)", "rgb(0, 0, 0)"]
    assert "color-contrast" in seen["looks"]["branded light"]["checked"]


def test_AZ_06_without_scripts_and_by_keyboard_an_app_gets_its_code(seen: dict[str, Any]) -> None:
    answer = query(seen["flows"]["allowed"])
    assert answer["code"]
    assert answer["state"] == "s t"


def test_AZ_04_denial_reaches_the_app(seen: dict[str, Any]) -> None:
    answer = query(seen["flows"]["denied"])
    assert answer["error"] == "access_denied"
    assert "code" not in answer


def test_AZ_06_with_scripts_and_by_keyboard_an_app_gets_its_code(seen: dict[str, Any]) -> None:
    assert query(seen["flows"]["allowed with scripts"])["code"]


@pytest.mark.parametrize("flow", ["handed on to another host", "remembered"])
def test_the_policy_lets_an_app_send_the_browser_on(seen: dict[str, Any], flow: str) -> None:
    assert seen["flows"][flow].startswith("https://home.example.com/done?")
    assert query(seen["flows"][flow])["code"]


def test_the_browser_finds_no_fault_with_the_policy(seen: dict[str, Any]) -> None:
    assert [line for line in seen["console"] if "ecurity" in line or "violat" in line] == []


def test_another_account_is_asked_for_the_same_app(seen: dict[str, Any]) -> None:
    assert seen["flows"]["switched"] == "Field Notes asks for access to your account"


def test_the_consents_buttons_are_in_view_and_nothing_is_behind_them(
    seen: dict[str, Any],
) -> None:
    """On a laptop, a small phone, and enlarged, for a name of 100 characters.

    It asks for 40 scopes as an app and for 20 as a device.
    """
    assert len(seen["bars"]) == 9
    for name, bar in seen["bars"].items():
        assert bar["inView"] == [True, True, True], name
        caution = "a device in front of you" if name.startswith("device") else "trust this app"
        assert caution in bar["caution"]
        assert bar["room"] > 0.6, f"{name}: the bar leaves too little of the page"
        assert bar["focusable"] == (2 if name.startswith("many") else 1), name
        assert bar["covered"] == [], name
        assert bar["gap"] >= 0, name


def test_what_is_new_and_powerful_is_told_from_what_was_allowed(
    seen: dict[str, Any],
) -> None:
    new, powerful, who, known, *rest = (re.sub(r"\s+", " ", each) for each in seen["flows"]["more"])
    assert new.startswith("New: if you allow it")
    assert powerful == "Delete recordings for good Powerful delete"
    assert who == "Know who you are openid"
    assert known == "It can already:"
    assert rest == ["See your recordings and their titles read", "Add recordings write"]


def test_DEV_01_the_consent_for_a_device_lists_the_powerful_first(seen: dict[str, Any]) -> None:
    assert len(seen["flows"]["device"]) == 20
    assert "Delete recordings for good" in seen["flows"]["device"][0]


def test_a_failure_at_an_upstream_names_the_app_and_has_a_reference(seen: dict[str, Any]) -> None:
    """By keyboard, the page was reached, and left for the login again."""
    said = seen["flows"]["failure"]
    assert "You need to sign in to continue to Field Notes." in said
    assert re.search(r"Reference for support: [2-9B-Z]{4}-[2-9B-Z]{4}", said)


def test_a_guesser_is_told_when_to_come_again(seen: dict[str, Any]) -> None:
    said = r"There were too many attempts\. Try again in "
    assert re.search(said + r"\d+ (seconds|minutes?)\.", seen["flows"]["plainThrottled"])
    assert re.search(said + r"\d+:\d\d\.", seen["flows"]["throttled"])
    before, after = (
        60 * int(minutes) + int(seconds)
        for minutes, seconds in (each.split(":") for each in seen["flows"]["clock"])
    )
    assert 1 <= before - after <= 10
    assert "You can try again now." in seen["flows"]["over"]


def test_a_password_is_shown_if_its_owner_wants_and_hidden_before_it_is_sent(
    seen: dict[str, Any],
) -> None:
    assert seen["flows"]["password"] == ["password", "text", "password", "text", "password"]
    assert seen["flows"]["plainButtons"] == ["Sign in"], "without scripts there is no such button"


def test_the_pictures_are_there_to_be_looked_at(seen: dict[str, Any], pictures: Path) -> None:
    assert seen["looks"]
    for name in PAGES:
        for appearance in APPEARANCES:
            assert (pictures / f"{name}-{appearance}.png").stat().st_size > 5000
