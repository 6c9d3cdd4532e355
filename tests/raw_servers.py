"""Servers that misbehave on sockets, and one over TLS with a certificate of its own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@contextmanager
def raw_server(answer: Callable[[socket.socket], None], *, reads: bool = True) -> Generator[str]:
    """Serve each connection with a function of its socket, when its request was read."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        if reads:
                            connection.recv(4096)
                        answer(connection)
                    except OSError:
                        continue  # the client gave up, as it should

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of our own for 127.0.0.1, and its key, in one file."""
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return make_certificate(tmp_path_factory.mktemp("tls") / "loopback.pem", address)


def make_certificate(path: Path, *names: x509.GeneralName) -> Path:
    """Write a certificate that signs itself, and its key, for some names."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now, now + dt.timedelta(days=1)
    ).add_extension(x509.SubjectAlternativeName(names), critical=False)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    )
    return path


def over_tls(
    certificate: Path,
    answer: Callable[[socket.socket], None],
    shown: list[str | None] | None = None,
) -> Callable[[socket.socket], None]:
    """Answer over TLS; `shown` gets the name that each client asks for (RFC 6066 §3)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if shown is not None:
        context.sni_callback = lambda _, name, __: shown.append(name)

    def answering(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(4096)
            answer(secured)

    return answering
