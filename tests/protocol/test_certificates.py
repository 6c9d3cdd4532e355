"""Client certificates in the header fields of proxies (RFC 8705, RFC 9440): their thumbprints."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.errors import ConfigurationError
from bearerguard.protocol.http import certificate_header, certificates
from bearerguard.protocol.http.certificate_header import CertificateHeader
from bearerguard.protocol.http.certificates import UnusableCertificate
from bearerguard.runtime.messages import ClientCertificate
from tests.certificates import AUTHORITY, CLIENT, OTHER
from tests.growth import growth

HASH = certificates.from_der(CLIENT.der).thumbprint
DIGEST = base64.urlsafe_b64decode(HASH + "=").hex()
OTHER_DIGEST = base64.urlsafe_b64decode(OTHER.thumbprint + "=").hex()
SPACED = CLIENT.pem.strip().replace("\n", " ")

WELL_FORMED: dict[str, tuple[Any, str]] = {
    "nginx": ("nginx", CLIENT.escaped),
    "nginx, with its chain": ("nginx", CLIENT.escaped + AUTHORITY.escaped),
    "nginx's format, without escapes": ("nginx", SPACED),
    "an AWS ALB": ("alb", CLIENT.alb),
    "an AWS ALB, with its chain": ("alb", quote(CLIENT.pem + AUTHORITY.pem, safe="+=/")),
    "Traefik": ("traefik", CLIENT.base64),
    "Traefik, escaped": ("traefik", quote(CLIENT.base64, safe="")),
    "Traefik, with its chain": ("traefik", f"{CLIENT.base64}, {AUTHORITY.base64}"),
    "RFC 9440": ("rfc9440", f":{CLIENT.base64}:"),
    "RFC 9440, spaced": ("rfc9440", f" :{CLIENT.base64}:\t"),
    "Envoy, its digest": ("envoy", f"Hash={DIGEST}"),
    "Envoy, its digest in capitals": ("envoy", f"By=spiffe://a;HASH={DIGEST.upper()}"),
    "Envoy, its certificate": ("envoy", f'Hash={DIGEST};Cert="{CLIENT.escaped}"'),
    "Envoy, a subject with every separator": (
        "envoy",
        f'Subject="CN=a\\",Hash={OTHER_DIGEST};O=b,c=d";Hash={DIGEST};URI=',
    ),
    "Envoy, its chain": ("envoy", f'Chain="{CLIENT.escaped}{AUTHORITY.escaped}"'),
    "Envoy, all three": (
        "envoy",
        f'Hash={DIGEST};Cert="{CLIENT.escaped}";Chain="{CLIENT.escaped}{AUTHORITY.escaped}"',
    ),
}


@pytest.mark.parametrize("case", WELL_FORMED)
def test_each_format_yields_the_certificate_of_the_tls_client(case):
    written, value = WELL_FORMED[case]
    found = CertificateHeader(written).parse([value.encode()])
    assert found is not None
    assert found.thumbprint == CLIENT.thumbprint
    assert found.der in {None, CLIENT.der}
    assert "chain" not in case or found.chain == (AUTHORITY.der,)


def test_a_thumbprint_is_the_base64url_of_the_sha256_of_the_der():
    assert certificates.from_der(CLIENT.der) == ClientCertificate(CLIENT.thumbprint)
    assert certificates.from_pem(CLIENT.pem.encode()).thumbprint == CLIENT.thumbprint


MALFORMED: dict[str, tuple[Any, str]] = {
    "no PEM": ("nginx", "hello"),
    "PEM without an end": ("nginx", CLIENT.escaped[:-20]),
    "PEM of something else": ("nginx", CLIENT.escaped.replace("CERTIFICATE", "PRIVATE%20KEY")),
    "PEM that holds no DER": (
        "nginx",
        quote("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
    ),
    "PEM that holds nothing": (
        "alb",
        quote("-----BEGIN CERTIFICATE----------END CERTIFICATE-----"),
    ),
    "only spaces, escaped": ("nginx", "%20%0A"),
    "text after the PEM": ("nginx", CLIENT.escaped + "x"),
    "text before the PEM": ("nginx", "x" + CLIENT.escaped),
    "two, joined by a comma": ("nginx", f"{OTHER.escaped},{CLIENT.escaped}"),
    "two of an AWS ALB, joined by a comma": ("alb", f"{OTHER.alb}, {CLIENT.alb}"),
    "a wrong escape": ("nginx", CLIENT.escaped.replace("%0A", "%ZZ")),
    "escaped twice": ("nginx", quote(CLIENT.escaped)),
    "base64 of another alphabet": ("traefik", base64.urlsafe_b64encode(b"\xff" * 9).decode()),
    "base64 with a letter left out": ("traefik", CLIENT.base64[1:]),
    "a DER with an octet too many": ("traefik", base64.b64encode(CLIENT.der + b"\0").decode()),
    "a DER with an octet too few": ("traefik", base64.b64encode(CLIENT.der[:-1]).decode()),
    "two DER after each other": ("traefik", base64.b64encode(CLIENT.der + CLIENT.der).decode()),
    "an empty part": ("traefik", f",{CLIENT.base64}"),
    "a chain with something else": ("traefik", f"{CLIENT.base64},AAAA"),
    "too many": ("traefik", ",".join([CLIENT.base64] * 17)),
    "too many in PEM": ("nginx", CLIENT.escaped * 18),
    "base64 without colons": ("rfc9440", CLIENT.base64),
    "one colon": ("rfc9440", ":"),
    "no octets": ("rfc9440", "::"),
    "two Byte Sequences": ("rfc9440", f":{OTHER.base64}:, :{CLIENT.base64}:"),
    "two Byte Sequences without a comma": ("rfc9440", f":{OTHER.base64}::{CLIENT.base64}:"),
    "a parameter": ("rfc9440", f":{CLIENT.base64}:;a=1"),
    "a quoted string": ("rfc9440", f'"{CLIENT.base64}"'),
    "an element without a certificate": ("envoy", "By=spiffe://a;URI=spiffe://b"),
    "an element that is empty": ("envoy", f"Hash={DIGEST},"),
    "no pair": ("envoy", "hello"),
    "a quotation without an end": ("envoy", f'Hash={DIGEST};Subject="CN=a'),
    "a digest that is too short": ("envoy", f"Hash={DIGEST[2:]}"),
    "a digest that is not hexadecimal": ("envoy", f"Hash={'x' * 64}"),
    "a digest that is not ASCII": ("envoy", "Hash=" + "\u00e9" * 32),
    "two digests": ("envoy", f"Hash={OTHER_DIGEST};Hash={DIGEST}"),
    "an element of the client's before it": ("envoy", f"Hash={OTHER_DIGEST} , Hash={DIGEST}"),
    # Envoy writes these names of a certificate, which may sign itself, as they are.
    "an element within a URI": ("envoy", f"Hash={OTHER_DIGEST};URI=a,By=b;Hash={DIGEST}"),
    "an element within a DNS name": ("envoy", f"Hash={OTHER_DIGEST};DNS=a,Hash={DIGEST};DNS=b"),
    "a pair within a URI": ("envoy", f"Hash={OTHER_DIGEST};URI=a;Hash={DIGEST}"),
    "the digest of another": ("envoy", f'Hash={OTHER_DIGEST};Cert="{CLIENT.escaped}"'),
    "the chain of another": (
        "envoy",
        f'Cert="{CLIENT.escaped}";Chain="{OTHER.escaped}{AUTHORITY.escaped}"',
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_is_no_certificate_and_says_why(case):
    written, value = MALFORMED[case]
    with pytest.raises(UnusableCertificate) as raised:
        CertificateHeader(written).parse([value.encode()])
    assert str(raised.value)
    assert "MII" not in str(raised.value)


@pytest.mark.parametrize("written", ["nginx", "envoy", "traefik", "alb", "rfc9440"])
def test_a_request_without_the_field_has_no_certificate(written):
    header = CertificateHeader(written)
    assert header.parse([]) is None
    assert header.parse([b""]) is None
    assert header.parse([b" \t"]) is None


@pytest.mark.parametrize("case", WELL_FORMED)
def test_a_repeated_field_is_no_certificate(case):
    written, value = WELL_FORMED[case]
    with pytest.raises(UnusableCertificate, match="repeated"):
        CertificateHeader(written).parse([value.encode()] * 2)


@pytest.mark.parametrize("written", ["nginx", "envoy", "traefik", "alb", "rfc9440"])
@pytest.mark.parametrize(
    ("start", "part"), [(b"", b"A"), (b'Subject="', b'\\"'), (b"", b"-----BEGIN CERTIFICATE-----")]
)
def test_a_value_of_megabytes_costs_no_more_than_one_that_is_just_too_long(written, start, part):
    header = CertificateHeader(written)

    def refused(octets: int) -> Callable[[], None]:
        value = start + part * (octets // len(part) + 1)

        def parse() -> None:
            with pytest.raises(UnusableCertificate, match="longer than 65536"):
                header.parse([value])

        return parse

    limit = certificate_header.MAX_FIELD_BYTES
    assert growth(refused(limit), refused(64 * limit)) < 8


@pytest.mark.parametrize("written", ["nginx", "envoy", "traefik", "alb", "rfc9440"])
@pytest.mark.parametrize(
    "part",
    [b"A", b"%", b"%41", b",", b":", b";", b'A="', b'\\"', b"A=;", b"Hash=,", b"-----BEGIN C"],
)
def test_the_longest_hostile_value_is_parsed_in_linear_time(written, part):
    header = CertificateHeader(written)

    def refused(octets: int) -> Callable[[], None]:
        value = part * (octets // len(part))

        def parse() -> None:
            with pytest.raises(UnusableCertificate):
                header.parse([value])

        return parse

    limit = certificate_header.MAX_FIELD_BYTES
    assert growth(refused(limit // 8), refused(limit)) < 24  # 8 if linear, 64 if quadratic


def test_the_certificate_is_that_of_the_outermost_proxy_of_ones_own():
    """With two proxies that append, the first of their elements is the client's."""
    value = f"Hash={DIGEST},Hash={OTHER_DIGEST}".encode()
    found = CertificateHeader("envoy", proxies=2).parse([value])
    assert found == ClientCertificate(CLIENT.thumbprint)
    for proxies in (1, 3):
        with pytest.raises(UnusableCertificate, match=f"2 elements, and proxies={proxies}"):
            CertificateHeader("envoy", proxies=proxies).parse([value])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"format": "haproxy"}, "format="),
        ({"format": None}, "format="),
        ({"format": ["nginx"]}, "format="),
        ({"format": "nginx", "name": "X_SSL_Client_Cert"}, "name="),
        ({"format": "nginx", "name": ""}, "name="),
        ({"format": "nginx", "name": 1}, "name="),
        ({"format": "envoy", "proxies": 0}, "proxies="),
        ({"format": "envoy", "proxies": True}, "proxies="),
        ({"format": "envoy", "proxies": "2"}, "proxies="),
        ({"format": "traefik", "proxies": 2}, "proxies="),
    ],
)
def test_an_option_that_cannot_be_is_named(arguments, named):
    with pytest.raises(ConfigurationError) as raised:
        CertificateHeader(**arguments)
    assert named in str(raised.value)


def test_a_field_of_another_name_is_read_and_all_of_the_proxys_fields_are_dropped():
    header = CertificateHeader("nginx", name="X-Client-Cert")
    assert header.field == "x-client-cert"
    assert header.dropped >= {b"x-client-cert", b"ssl-client-cert", b"ssl-client-verify"}
    assert repr(header) == "CertificateHeader('nginx', name='x-client-cert', proxies=1)"
    assert b"x-amzn-mtls-clientcert-subject" in CertificateHeader("alb").dropped


@given(
    st.sampled_from(["nginx", "envoy", "traefik", "alb", "rfc9440"]),
    st.one_of(
        st.binary(max_size=200),
        st.text('AHash=Certin",;:%\\-BEGIN ', max_size=100).map(str.encode),
        st.builds(
            lambda value, at, octet: value[:at] + octet + value[at + 1 :],
            st.sampled_from([value.encode() for _, value in WELL_FORMED.values()]),
            st.integers(0, 1500),
            st.binary(max_size=2),
        ),
    ),
)
def test_no_value_raises_anything_else_or_yields_another_certificate(written, value):
    try:
        found = CertificateHeader(written).parse([value])
    except UnusableCertificate:
        return
    assert found is None or found.thumbprint == CLIENT.thumbprint or found.der != CLIENT.der
