"""`bearerguard doctor` examines an issuer that others wrote."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from bearerguard.cli import app
from tests.peers.conftest import OidcProvider


def examined(url: str, code: int) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["doctor", url, "--json"])
    assert done.exit_code == code, done.output
    (report,) = json.loads(done.stdout)["reports"]
    found: dict[str, Any] = report
    return found


def worst(report: dict[str, Any], check: str) -> set[str]:
    return {each["severity"] for each in report["findings"] if each["check"] == check}


def test_oidc_provider_has_no_problem(issuer: OidcProvider) -> None:
    report = examined(issuer.url, 0)
    assert report["kinds"] == ["issuer"]
    assert report["counts"]["problem"] == 0, report["findings"]
    for check in ("discovery.issuer", "keys.usable", "keys.kid", "metadata.pkce", "metadata.iss"):
        assert worst(report, check) == {"ok"}, check
    assert worst(report, "introspection.authentication") <= {"ok", "note"}
    assert worst(report, "discovery.places") == {"ok"}


def test_an_outage_of_oidc_provider_is_reported(issuer: OidcProvider) -> None:
    issuer.outage(on=True)
    try:
        found = CliRunner().invoke(app, ["doctor", issuer.url, "--issuer", "--json"])
    finally:
        issuer.outage(on=False)
    assert found.exit_code == 1
    assert "status 503" in found.stdout
