"""Token introspection (RFC 7662) and its signed answers (RFC 9701): build, read.

The token travels in the body, never in a URL. An answer either says that the token is
active, with its claims, or that it is not; whatever else comes is `IntrospectionFailed`,
from which nothing is learned about the token.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from bearerguard.errors import TokenError, quoted
from bearerguard.protocol import claims, metadata, names
from bearerguard.protocol.client_authentication import Proof
from bearerguard.protocol.http import document
from bearerguard.protocol.jose import jwt
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response

SIGNED_MEDIA_TYPE = f"application/{names.INTROSPECTION_JWT}"

_OK = 200
_BAD_REQUEST = 400
_SERVER_ERROR = 500
# What the endpoint answers to everybody when it is down, moved, busy, or knows us no longer. All
# else may be about this one token, as a firewall before the endpoint judges it: a stranger who
# sends such tokens must not stop others.
_OF_THE_ENDPOINT = frozenset({401, 404, 429})
# A signed answer has all claims of a token in it, however large tokens may be; what a transport
# reads is bounded already.
_MAX_ANSWER = 2**20
# How old or how far ahead a signed answer may be: it was made for this request.
_MAX_AGE = 300


class IntrospectionFailed(Exception):
    """The answer says nothing about the token.

    `of_this_token` says that others may fare better: nothing is learned about the endpoint.
    `is_unsupported`, that the server knows no tokens of this kind.
    """

    def __init__(
        self, cause: str, *, of_this_token: bool = True, is_unsupported: bool = False
    ) -> None:
        super().__init__(cause)
        self.of_this_token = of_this_token
        self.is_unsupported = is_unsupported


class SignedAnswer(NamedTuple):
    """A signed answer taken apart. Nothing in it is proved before its signature is."""

    header: jwt.Header
    token: jwt.SignedToken


def request(endpoint: str, token: str, proof: Proof, *, signed: bool) -> Fetch:
    """Build the request (RFC 7662 §2.1); `signed` asks for a signed answer (RFC 9701 §4)."""
    form = (("token", token), ("token_type_hint", names.ACCESS_TOKEN), *proof.parameters)
    return Fetch(
        "POST",
        endpoint,
        (
            ("accept", SIGNED_MEDIA_TYPE if signed else names.JSON),
            ("content-type", names.FORM),
            *proof.headers,
        ),
        urlencode(form).encode("ascii"),
        keep_alive=True,
    )


def read(answer: Response, *, signed: bool) -> dict[str, Any] | SignedAnswer | None:
    """Read an answer (RFC 7662 §2.2): the members of an active token, None for an inactive one.

    A signed answer is returned taken apart: prove its signature, then see `signed_members`.
    `signed` refuses any other. Raises `IntrospectionFailed`.
    """
    if answer.status != _OK:
        code = _error_code(answer)
        raise IntrospectionFailed(
            f"status {answer.status}" + (f" and error {quoted(code)}" if code else ""),
            of_this_token=_is_of_token(answer.status),
            is_unsupported=answer.status == _BAD_REQUEST and code == names.UNSUPPORTED_TOKEN_TYPE,
        )
    kind = (answer.header("content-type") or "").partition(";")[0].strip().lower()
    if kind == SIGNED_MEDIA_TYPE:
        return _taken_apart(answer.body)
    if signed:
        raise IntrospectionFailed(f"its answer is {quoted(kind)}, not {SIGNED_MEDIA_TYPE}")
    try:
        members = document.loads_object(answer.body)
    except ValueError as error:
        raise IntrospectionFailed(f"its answer is no JSON object: {error}") from None
    return _members(members)


def unreadable(status: int, cause: str) -> IntrospectionFailed:
    """Return what an answer means whose body cannot be read, such as a firewall's long page."""
    return IntrospectionFailed(f"status {status}, and {cause}", of_this_token=_is_of_token(status))


def signed_members(
    answer: SignedAnswer, *, issuers: Collection[str], audience: frozenset[str], now: float
) -> dict[str, Any] | None:
    """Return what a signed answer says, as `read` does (RFC 9701 §5); its signature is proved.

    It must come from the issuer, by one of its names, be meant for one of the names in
    `audience`, by which the issuer knows this API, and be made at about `now`.
    """
    found = answer.token.claims
    meant_for = found.get("aud")
    if found.get("iss") not in issuers:
        raise IntrospectionFailed(f"its signed answer has iss {quoted(found.get('iss'))}")
    names = meant_for if isinstance(meant_for, list) else [meant_for]
    if not any(isinstance(name, str) and name in audience for name in names):
        raise IntrospectionFailed(f"its signed answer has aud {quoted(meant_for)}")
    try:
        issued_at = claims.numeric_date({"iat": found.get("iat")}, "iat")
    except TokenError as error:
        raise IntrospectionFailed(f"its signed answer: {error.remedy}") from None
    if abs(now - issued_at) > _MAX_AGE:
        raise IntrospectionFailed("its signed answer was not made now")
    members = found.get("token_introspection")
    if not isinstance(members, dict):
        raise IntrospectionFailed("its signed answer has no object token_introspection")
    return _members(members)


def endpoint_and_methods(body: bytes, issuer: str) -> tuple[str, tuple[str, ...]]:
    """Return, from metadata, where to introspect and how to authenticate (RFC 8414 §2).

    No methods are returned where none are listed. Raises ValueError when it is not the
    metadata of `issuer`, or has no endpoint.
    """
    published = metadata.parse(body, issuer)
    endpoint = metadata.endpoint(published, "introspection_endpoint", "endpoint=")
    listed = published.get("introspection_endpoint_auth_methods_supported")
    methods = listed if isinstance(listed, list) else []
    return endpoint, tuple(each for each in methods if isinstance(each, str))


def _is_of_token(status: int) -> bool:
    return status < _SERVER_ERROR and status not in _OF_THE_ENDPOINT


def _members(members: Mapping[str, Any]) -> dict[str, Any] | None:
    active = members.get("active")
    if active is False:
        return None
    if active is not True:  # "true", 1 and null are no JSON true
        raise IntrospectionFailed("its answer has no boolean `active`")
    return {name: value for name, value in members.items() if name != "active"}


def _taken_apart(body: bytes) -> SignedAnswer:
    try:
        token = jwt.parse(body.strip(), _MAX_ANSWER)
        header = jwt.parse_header(token.header)
    except TokenError as error:
        raise IntrospectionFailed(f"its signed answer: {error.remedy}") from None
    if jwt.media_type(header.typ) != names.INTROSPECTION_JWT:
        raise IntrospectionFailed(f"its signed answer has typ {quoted(header.typ)}")
    return SignedAnswer(header, token)


def _error_code(answer: Response) -> str | None:
    """Return the OAuth error code that the answer gives."""
    try:
        code = document.loads_object(answer.body).get("error")
    except ValueError:
        return None
    return code if isinstance(code, str) else None
