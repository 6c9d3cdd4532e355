"""A browser app on another origin calls both examples and reads what it needs."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bearerguard.runtime.messages import Request, Response
from bearerguard.testing.loopback import serving as serving_page
from tests.examples.servers import serving
from tests.peers.conftest import OidcProvider

PATH = "/api/v1/recordings"
PAGE = """<!doctype html><title>app</title><pre id="seen"></pre><script>
const call = async (token, method) => {
  const answer = await fetch(%(url)s, {
    method,
    headers: {Authorization: 'Bearer ' + token, 'Content-Type': 'application/json'},
  });
  const headers = Object.fromEntries(
    ['Access-Token-Expires-In', 'Access-Token-Expires-At', 'WWW-Authenticate', 'Cache-Control']
      .map((name) => [name, answer.headers.get(name)]));
  return {status: answer.status, headers, body: await answer.json()};
};
(async () => {
  const seen = [];
  try {
    seen.push(await call(%(token)s, 'GET'));
    seen.push(await call('forged', 'GET'));
    seen.push(await call(%(token)s, 'POST'));
  } catch (error) {
    seen.push(String(error));
  }
  document.getElementById('seen').textContent = JSON.stringify(seen);
})();
</script>"""


def browse(url: str, profile: Path) -> list[dict[str, Any]]:
    """Open a page in headless Chromium; return what its script has seen."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    done = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout + done.stderr
    seen: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return seen


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_a_script_reads_expiry_and_challenges(
    server: str, issuer: OidcProvider, tmp_path: Path
) -> None:
    token = issuer.token("ES256", scope="read")
    with serving(server, issuer.url, "urn:api:ES256") as url:
        page = PAGE % {"url": json.dumps(url + PATH), "token": json.dumps(token)}

        def answer(_request: Request) -> Response:
            return Response(200, (("Content-Type", "text/html"),), page.encode())

        with serving_page(answer) as origin:
            allowed, forged, weak = browse(origin, tmp_path)
    assert allowed["status"] == 200
    assert allowed["body"]["recordings"]
    assert 0 < int(allowed["headers"]["Access-Token-Expires-In"]) <= 3600
    assert allowed["headers"]["Access-Token-Expires-At"].startswith("@")
    assert forged["status"] == 401
    assert forged["headers"]["WWW-Authenticate"].startswith(
        'Bearer realm="api", error="invalid_token"'
    )
    assert weak["status"] == 403
    assert 'scope="write"' in weak["headers"]["WWW-Authenticate"]
