"""Status lists, security events and their subjects (RFC 9493, RFC 8417, Token Status List)."""

from __future__ import annotations

import json
from contextlib import suppress

from bearerguard.errors import TokenError
from bearerguard.protocol import status_list
from bearerguard.protocol.events import security_event, subject_identifier
from tests.fuzz.of_protocol import NOW, _object
from tests.fuzz.target import target, text

_LIST = status_list.encode([0, 1, 1, 0, 0, 0, 0, 1, 1])
_URI = "https://id.example/statuslists/1"
_SECOND = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"


@target(
    json.dumps(
        {"sub": _URI, "iat": NOW, "exp": NOW + 60, "ttl": 60, "status_list": _LIST}
    ).encode(),
    json.dumps({"status": {"status_list": {"uri": _URI, "idx": 3}}}).encode(),
    json.dumps({"sub": _URI, "iss": ["a"], "iat": NOW, "status_list": _LIST}).encode(),
    b'{"status":{"status_list":{"uri":"","idx":true}}}',
    b'{"status":[],"status_list":{"bits":[1],"lst":"AAAA"}}',
)
def status_claims(octets: bytes) -> None:
    found = _object(octets)
    if found is None:
        return
    with suppress(TokenError):
        place = status_list.reference(found)
        assert place is None or place.index >= 0
    for issuers in (("https://id.example",), ["https://id.example"]):
        with suppress(ValueError):
            read = status_list.read(found, uri=_URI, issuers=issuers, now=NOW, leeway=30)
            assert found["sub"] == _URI
            assert read.expires_at is None or read.expires_at > NOW - 30


@target(
    json.dumps(_LIST).encode(),
    json.dumps(status_list.encode([3, 2, 1, 0], 2)).encode(),
    json.dumps(status_list.encode([0] * 100_000)).encode(),
    b'{"bits":8,"lst":"eNoDAAAAAAE"}',
)
def packed_statuses(octets: bytes) -> None:
    found = _object(octets)
    with suppress(ValueError):
        read = status_list.decode(found)
        for index in range(min(len(read), 50)):
            assert 0 <= read[index] < 1 << read.bits


@target(
    json.dumps(
        {
            "aud": "api",
            "jti": "1",
            "iat": NOW,
            "iss": "https://id.example",
            "sub_id": {"format": "iss_sub", "iss": "https://id.example", "sub": "ada"},
            "events": {_SECOND: {"event_timestamp": NOW}},
        }
    ).encode(),
    json.dumps(
        {
            "aud": ["api", []],
            "jti": "1",
            "iat": NOW,
            "toe": NOW * 1000,
            "events": {
                _SECOND: {
                    "subject": {"user": {"format": "email", "email": "a"}, "session": {"a": 1}}
                }
            },
        }
    ).encode(),
    b'{"aud":"api","jti":"1","iat":1800000000,"sub_id":{"format":"aliases","identifiers":'
    b'[{"format":"aliases"}]},"events":{"a":{}}}',
    b'{"aud":"api","jti":[],"iat":true,"events":[]}',
    b'{"aud":"api","jti":"1","iat":1800000000,"sub_id":{"format":["iss_sub"]},"events":{"a":{}}}',
)
def security_event_claims(octets: bytes) -> None:
    found = _object(octets)
    if found is None:
        return
    with suppress(TokenError):
        token = security_event.parse(found, ["api"], NOW)
        assert token.token_id
        assert 0 < len(token.events) <= 16
        for event in token.events:
            assert event.occurred_at <= NOW + 300
            assert isinstance(event.revokes, bool)
    with suppress(ValueError):
        assert subject_identifier.read(found)
    json.loads(security_event.error_body(text(octets)[:9], text(octets)))
