"""`HttpTransport(client_certificate=)`: what cannot be presented is refused when it is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from bearerguard import ConfigurationError, HttpTransport
from bearerguard.client import ClientCredentials
from tests.certificates import CLIENT, OTHER


def test_a_certificate_and_its_key_may_be_in_one_file(tmp_path: Path) -> None:
    certificate, key = CLIENT.write(tmp_path, "client")
    both = tmp_path / "both.pem"
    both.write_bytes(Path(certificate).read_bytes() + Path(key).read_bytes())
    for given in (str(both), (certificate, key)):
        HttpTransport(client_certificate=given)


def test_what_cannot_be_presented_is_named(tmp_path: Path) -> None:
    certificate, key = CLIENT.write(tmp_path, "client")
    _, foreign = OTHER.write(tmp_path, "other")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        CLIENT.key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    refused: list[tuple[Any, str]] = [
        ("/nowhere.pem", "'/nowhere.pem': No such file"),
        (certificate, "client.pem': "),
        ((certificate, foreign), "client.pem' and '.*other.*': "),
        ((certificate, str(encrypted)), "encrypted.key': "),
        *((each, "it is no path") for each in ((certificate,), 7, (7, key))),
        ((certificate, key, key), "it is no path"),
        ((certificate, 7), "no path"),
        (Path(key).read_text(), "no path"),
    ]
    for given, named in refused:
        with pytest.raises(ConfigurationError, match=f"client_certificate=: .*{named}") as caught:
            HttpTransport(client_certificate=given)
        assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mutual_tls": "yes"}, "mutual_tls="),
        ({"auth_method": "tls_client_auth", "client_secret": "x"}, "auth_method="),
    ],
)
def test_a_client_that_cannot_be_is_named(options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        ClientCredentials("https://id.example.com", client_id="app", **options)
