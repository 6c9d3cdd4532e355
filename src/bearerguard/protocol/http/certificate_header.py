"""Where a client certificate comes from: the TLS connection, or a header field of a trusted proxy.

Each format of a field is one function from its value to a certificate. A field is read only where
the peer is a proxy of the operator's. Knows neither ASGI nor WSGI.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import unquote_to_bytes

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol.http.certificates import (
    MAX_CERTIFICATES,
    UnusableCertificate,
    from_base64,
    from_der,
    from_pem,
    thumbprint,
)
from bearerguard.protocol.http.proxies import Proxies, environ_peer
from bearerguard.runtime.messages import ClientCertificate

# The longest field that is read. A chain of ten certificates, each of 2 KB, takes half of it;
# servers admit fields of 8 to 64 KiB.
MAX_FIELD_BYTES = 65_536
# A pair of an element in Envoy's field; a quoted value may hold any character, escaped by "\".
_PAIR = re.compile(rb'[ \t]*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)[ \t]*([;,]|\Z)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")  # RFC 9110 §5.6.2, without "_"

Format: TypeAlias = Literal["nginx", "envoy", "traefik", "alb", "rfc9440"]

# The formats


def _escaped_pem(value: bytes, _proxies: int) -> ClientCertificate:
    # "+" is a letter of base64 here, and not a space: nginx escapes it, an AWS ALB does not.
    return from_pem(unquote_to_bytes(value))


def _comma_separated(value: bytes, _proxies: int) -> ClientCertificate:
    parts = [unquote_to_bytes(each.strip(b" \t")) for each in value.split(b",")]
    if len(parts) > MAX_CERTIFICATES:
        raise UnusableCertificate(f"it has more than {MAX_CERTIFICATES} certificates")
    leaf, *chain = [from_base64(each) for each in parts]
    return from_der(leaf, chain)


def _byte_sequence(value: bytes, _proxies: int) -> ClientCertificate:
    value = value.strip(b" \t")
    body = value[1:-1]
    if len(value) < len(b"::") or value != b":%b:" % body or b":" in body:
        raise UnusableCertificate("it is no Byte Sequence (RFC 9440 §2.1)")
    return from_der(from_base64(body))


def _forwarded_element(value: bytes, proxies: int) -> ClientCertificate:
    elements = _elements(value)
    # Each proxy appends what it saw. More than those are a client's: sent as a field, or in a URI
    # or DNS name of its certificate, which Envoy writes as they are. Nobody can tell them apart.
    if len(elements) != proxies:
        raise UnusableCertificate(f"it has {len(elements)} elements, and proxies={proxies}")
    element = elements[0]
    pem, chain, digest = element.get(b"cert"), element.get(b"chain"), element.get(b"hash")
    if not pem and not chain:
        if not digest:
            raise UnusableCertificate("its element has neither Hash nor Cert nor Chain")
        return ClientCertificate(thumbprint(_sha256(digest)))
    certificate = from_pem(unquote_to_bytes(chain or pem or b""))
    if pem and chain and from_pem(unquote_to_bytes(pem)) != certificate:
        raise UnusableCertificate("its Chain does not begin with its Cert")
    if digest and thumbprint(_sha256(digest)) != certificate.thumbprint:
        raise UnusableCertificate("its Hash is not that of its Cert")
    return certificate


def _elements(value: bytes) -> list[dict[bytes, bytes]]:
    """Return the elements of Envoy's field, each as its pairs, names in lower case."""
    elements: list[dict[bytes, bytes]] = [{}]
    position = 0
    while position < len(value):
        pair = _PAIR.match(value, position)
        if pair is None:
            raise UnusableCertificate("it is no list of Key=Value pairs")
        name, text = pair[1].lower(), pair[2]
        if text.startswith(b'"'):
            text = _ESCAPED.sub(rb"\1", text[1:-1])
        if name in {b"hash", b"cert", b"chain"} and name in elements[-1]:
            raise UnusableCertificate("one element has two certificates")
        elements[-1][name] = text
        if pair[3] == b",":
            elements.append({})
        position = pair.end()
    return elements


def _sha256(digest: bytes) -> bytes:
    try:
        octets = bytes.fromhex(digest.decode("ascii"))
    except ValueError:
        octets = b""
    if len(octets) != hashlib.sha256().digest_size:
        raise UnusableCertificate("its Hash is no SHA-256 in hexadecimal")
    return octets


@dataclass(frozen=True, slots=True)
class _Format:
    """A format: the usual name of its field, other fields of the same proxy, and its parser."""

    name: str
    others: tuple[str, ...]
    parse: Callable[[bytes, int], ClientCertificate]


_FORMATS: Mapping[str, _Format] = {
    "nginx": _Format(
        "ssl-client-cert",
        ("x-ssl-client-cert", "ssl-client-verify", "ssl-client-subject-dn", "ssl-client-issuer-dn"),
        _escaped_pem,
    ),
    "envoy": _Format("x-forwarded-client-cert", (), _forwarded_element),
    "traefik": _Format(
        "x-forwarded-tls-client-cert", ("x-forwarded-tls-client-cert-info",), _comma_separated
    ),
    "alb": _Format(
        "x-amzn-mtls-clientcert-leaf",
        (
            *("x-amzn-mtls-clientcert", "x-amzn-mtls-clientcert-serial-number"),
            *("x-amzn-mtls-clientcert-issuer", "x-amzn-mtls-clientcert-subject"),
            "x-amzn-mtls-clientcert-validity",
        ),
        _escaped_pem,
    ),
    "rfc9440": _Format("client-cert", ("client-cert-chain",), _byte_sequence),
}


class CertificateHeader:
    """The header field in which a trusted proxy sends the certificate of its TLS client.

    Args:
        format: how the proxy writes it: "nginx" (`$ssl_client_escaped_cert`, escaped PEM), "envoy"
            (`X-Forwarded-Client-Cert`), "traefik" (base64 of the DER, as HAProxy has it too),
            "alb" (AWS: escaped PEM), or "rfc9440" (`Client-Cert`).
        name: the name of the field, by default the proxy's usual one: `ssl-client-cert`,
            `X-Forwarded-Client-Cert`, `X-Forwarded-Tls-Client-Cert`,
            `X-Amzn-Mtls-Clientcert-Leaf`, `Client-Cert`.
        proxies: how many of your own proxies append an element to Envoy's field. The certificate
            is that of the outermost one's client; a field with more or fewer elements is refused.

    Raises:
        ConfigurationError: an argument is none of these.
    """

    __slots__ = ("dropped", "field", "format", "proxies")

    def __init__(self, format: Format, *, name: str | None = None, proxies: int = 1) -> None:  # noqa: A002 - the option's name
        known = _FORMATS.get(format) if isinstance(format, str) else None
        if known is None:
            raise ConfigurationError(
                f"CertificateHeader(format=): {quoted(format)} is none of"
                f" {', '.join(get_args(Format))}"
            )
        if name is not None and not (isinstance(name, str) and _FIELD_NAME.fullmatch(name)):
            raise ConfigurationError(
                f"CertificateHeader(name=): {quoted(name)} is no header name, such as"
                " X-SSL-Client-Cert; underscores are replaced by some proxies and servers"
            )
        if not isinstance(proxies, int) or isinstance(proxies, bool) or proxies < 1:
            raise ConfigurationError(
                "CertificateHeader(proxies=): pass how many of your proxies append an element, at"
                " least 1"
            )
        if proxies > 1 and format != "envoy":
            raise ConfigurationError(
                f"CertificateHeader(proxies=): the format {format!r} has one certificate: only"
                ' "envoy" has an element for each proxy'
            )
        self.format: Format = format
        #: The name of the field, in lower case.
        self.field: str = (name or known.name).lower()
        self.proxies: int = proxies
        #: The fields that only a trusted proxy may send.
        self.dropped: frozenset[bytes] = frozenset(
            name.encode() for name in (self.field, known.name, *known.others)
        )

    def __repr__(self) -> str:
        return f"CertificateHeader({self.format!r}, name={self.field!r}, proxies={self.proxies})"

    def parse(self, values: Sequence[bytes]) -> ClientCertificate | None:
        """Return the certificate of a request, None where the field is absent or empty.

        `values` are those of all fields of that name. Raises `UnusableCertificate`, also for a
        field that is repeated: another than the proxy may have sent one of them.
        """
        if not values:
            return None
        if len(values) > 1:
            raise UnusableCertificate("the field is repeated")
        value = values[0]
        if len(value) > MAX_FIELD_BYTES:
            raise UnusableCertificate(f"the field is longer than {MAX_FIELD_BYTES} bytes")
        if not value.strip(b" \t"):
            return None
        return _FORMATS[self.format].parse(value, self.proxies)


Certificates: TypeAlias = Literal["tls"] | Format | CertificateHeader


class CertificateSource:
    """The one place from which the certificates of TLS clients are taken.

    Args:
        certificates: "tls" for the connection itself, as the ASGI or WSGI server reports it; or
            the header field of your proxies, by its format or as a `CertificateHeader`.
        proxies: the peers whose field is believed.

    Raises:
        ConfigurationError: it is none of these, or no proxy is named.
    """

    __slots__ = ("_proxies", "_variables", "header")

    def __init__(self, certificates: Certificates, proxies: Proxies) -> None:
        given: object = certificates
        if given == "tls":
            self.header: CertificateHeader | None = None
        elif isinstance(given, CertificateHeader):
            self.header = given
        elif isinstance(given, str) and given in _FORMATS:
            self.header = CertificateHeader(given)  # type: ignore[arg-type] # as was checked
        else:
            raise ConfigurationError(
                f'certificates=: {quoted(given)} is neither "tls" nor one of'
                f" {', '.join(get_args(Format))} nor a CertificateHeader"
            )
        if self.header is not None and not proxies:
            raise ConfigurationError(
                f"certificates=: anybody can send the header {self.header.field}: name the proxies"
                ' that set it in trusted_proxies=, such as ["10.0.0.0/24"] or ["unix"]'
            )
        self._proxies = proxies
        dropped = () if self.header is None else self.header.dropped
        # CGI has one spelling for a field's names with "-" and with "_".
        self._variables = tuple(
            "HTTP_" + name.decode("ascii").upper().replace("-", "_") for name in dropped
        )

    @property
    def absence(self) -> str:
        """Why a request may lack a certificate, for log lines."""
        if self.header is None:
            return (
                "the client must present it in the TLS handshake, and the server must report it"
                " (uvicorn, hypercorn and granian do not: pass the header of a proxy)"
            )
        return (
            "the client must present it in the TLS handshake, and the proxy must send it as"
            f" {self.header.field}"
        )

    def find(
        self,
        connection: Callable[[], ClientCertificate | None],
        peer: Callable[[], str | None],
        values: Callable[[str], Sequence[bytes]],
    ) -> ClientCertificate | None:
        """Return the certificate of a request's TLS client, None for none.

        Args:
            connection: returns that of the connection.
            peer: returns the address of the connection, "" for a Unix socket; None if something
                may have replaced it.
            values: returns the values of all header fields of a lower-case name.

        Raises:
            UnusableCertificate: what was received is no certificate, or not from a trusted peer.
        """
        header = self.header
        if header is None:
            return connection()
        received = values(header.field)
        if not received:
            return None
        address = peer()
        if address is None:
            # Short: an event of the server has 100 characters of it.
            raise UnusableCertificate(
                "X-Forwarded-For replaced the peer's address: run uvicorn with --no-proxy-headers"
            )
        if not self._proxies.trusts(address):
            raise UnusableCertificate(
                f"the peer {quoted(address)}, which sent the field, is none of trusted_proxies="
            )
        return header.parse(received)

    def look(
        self,
        connection: Callable[[], ClientCertificate | None],
        peer: Callable[[], str | None],
        values: Callable[[str], Sequence[bytes]],
    ) -> tuple[ClientCertificate | None, str]:
        """Return what `find` returns, or None and why what was received does not count."""
        try:
            return self.find(connection, peer, values), ""
        except UnusableCertificate as error:
            return None, str(error)

    def forged(
        self, names: Iterable[bytes], peer: Callable[[], str | None]
    ) -> frozenset[bytes] | None:
        """Return which header fields only a proxy may send and none has sent; None for none.

        A name with `_` for `-` is from no proxy: WSGI and CGI cannot distinguish the two.

        Args:
            names: those of a request's fields, in any case.
            peer: as for `find`.
        """
        dropped = () if self.header is None else self.header.dropped
        found = {name for name in names if name.lower().replace(b"_", b"-") in dropped}
        if found and self._proxies.trusts(peer()):
            found = {name for name in found if b"_" in name}
        return frozenset(found) or None

    def drop_forged(self, environ: MutableMapping[str, Any]) -> None:
        """Remove from a WSGI environ what only a proxy may send and none has sent."""
        sent = [key for key in self._variables if key in environ]
        if sent and not self._proxies.trusts(environ_peer(environ)):
            for key in sent:
                del environ[key]
