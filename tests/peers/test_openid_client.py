"""openid-client, the usual client of Node.js, with tokens that are bound to a key or a certificate.

It is certified for OpenID Connect, and checks every response strictly. The server ends TLS itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.certificates import AUTHORITY, CLIENT
from tests.peers.conftest import HERE
from tests.server.harness import CALLBACK
from tests.server.test_mutual_tls_servers import BOUND, NAMED, by_gunicorn, serving


def test_ADP_01_MTLS_01_openid_client_binds_its_tokens_and_uses_them(tmp_path: Path) -> None:
    if shutil.which("node") is None or not (HERE / "node_modules" / "openid-client").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    with serving(tmp_path, by_gunicorn, proxied=False) as served:
        phone = served.server.clients.add(
            "Phone",
            public=True,
            redirect_uris=[CALLBACK],
            scopes=["read", "write"],
            require_consent=False,
        )
        machine = served.add(**NAMED, **BOUND)
        certificate, key = CLIENT.write(tmp_path, "client")
        variables = {
            "ISSUER": served.url,
            "PHONE": phone.client_id,
            "MACHINE": machine.client_id,
            "REDIRECT_URI": CALLBACK,
            "AUTHORITY": AUTHORITY.write(tmp_path, "authority")[0],
            "CERTIFICATE": certificate,
            "KEY": key,
        }
        done = subprocess.run(
            ["node", "openid_client.mjs"],
            cwd=HERE,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr + served.program.output
    found = json.loads(done.stdout)
    assert found["dpop"] == {
        "types": ["dpop", "dpop"],
        "bound": True,
        "api": 200,
        "again": 200,
        "otherKey": "401 invalid_token",
        "withoutProof": "401 invalid_token",
        "refreshByOtherKey": "invalid_grant",
    }
    assert found["mutual"] == {
        "type": "bearer",
        "cnf": {"x5t#S256": CLIENT.thumbprint},
        "api": 200,
        "withoutCertificate": "401 invalid_token",
        "tokenWithoutCertificate": "invalid_client",
    }
