"""Token introspection (RFC 7662) and signed responses to it (RFC 9701): build, read.

The token is sent in the body, never in a URL. A response says that the token is active, with its
claims, or that it is not. Any other response is `IntrospectionFailed`, and means nothing for the
token.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlencode

from bearerguard.errors import TokenError, quoted
from bearerguard.protocol import jwt_claims, metadata, names
from bearerguard.protocol.http import document
from bearerguard.protocol.jose import jwt
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response

if TYPE_CHECKING:  # whoever knows only the errors needs no client authentication
    from bearerguard.protocol.client_authentication import Proof

SIGNED_MEDIA_TYPE = f"application/{names.INTROSPECTION_JWT}"

_OK = 200
_BAD_REQUEST = 400
_SERVER_ERROR = 500
# Statuses of an endpoint that has moved, is busy or no longer accepts our credentials. Others may
# be about this one token, such as those of a firewall: whoever sends such tokens must not stop
# introspection for others.
_ENDPOINT_STATUSES = frozenset({401, 404, 429})
# Bytes. A signed response has all claims of a token; the transport limits it too.
_MAX_RESPONSE = 2**20
# Seconds by which the time of a signed response may differ: it was made for this request.
_MAX_AGE = 300


class IntrospectionFailed(Exception):
    """The response does not state whether the token is active.

    Attributes:
        of_this_token: whether the cause may be this token alone, and not the endpoint.
        is_unsupported: whether the server does not know tokens of this kind.
        kind: `status`, `not_json`, or `content`: a document that is not a valid response.
    """

    def __init__(
        self,
        cause: str,
        *,
        of_this_token: bool = True,
        is_unsupported: bool = False,
        kind: Literal["status", "not_json", "content"] = "content",
    ) -> None:
        super().__init__(cause)
        self.kind: str = kind
        self.of_this_token = of_this_token
        self.is_unsupported = is_unsupported


class SignedResponse(NamedTuple):
    """A parsed signed response; its signature is still to be verified."""

    header: jwt.Header
    token: jwt.SignedToken


def request(endpoint: str, token: str, proof: Proof, *, signed: bool) -> Fetch:
    """Build the request (RFC 7662 §2.1); `signed` asks for a signed response (RFC 9701 §4)."""
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


def read(response: Response, *, signed: bool) -> dict[str, Any] | SignedResponse | None:
    """Return the members of an active token (RFC 7662 §2.2), None for an inactive one.

    A signed response is parsed alone: verify its signature, then call `signed_members`. With
    `signed`, any other response is refused. Raises `IntrospectionFailed`.
    """
    if response.status != _OK:
        code = _error_code(response)
        raise IntrospectionFailed(
            f"status {response.status}" + (f" and error {quoted(code)}" if code else ""),
            of_this_token=_is_of_token(response.status),
            is_unsupported=response.status == _BAD_REQUEST and code == names.UNSUPPORTED_TOKEN_TYPE,
            kind="status",
        )
    kind = (response.header("content-type") or "").partition(";")[0].strip().lower()
    if kind == SIGNED_MEDIA_TYPE:
        return _parse_signed(response.body)
    if signed:
        raise IntrospectionFailed(f"its response is {quoted(kind)}, not {SIGNED_MEDIA_TYPE}")
    try:
        members = document.loads_object(response.body)
    except ValueError as error:
        raise IntrospectionFailed(
            f"its response is no JSON object: {error}", kind="not_json"
        ) from None
    return _members(members)


def unreadable(status: int, cause: str) -> IntrospectionFailed:
    """Return the error of a response whose body cannot be read, such as a firewall's long page."""
    return IntrospectionFailed(
        f"status {status}, and {cause}", of_this_token=_is_of_token(status), kind="status"
    )


def signed_members(
    response: SignedResponse, *, issuers: Collection[str], audience: frozenset[str], now: float
) -> dict[str, Any] | None:
    """Return the members of a signed response (RFC 9701 §5) whose signature is verified.

    The result is that of `read`. The response's `iss` must be among `issuers`, its `aud` must have
    a name in `audience`, by which the issuer knows this API, and its `iat` must be about `now`.
    """
    found = response.token.claims
    audience_claim = found.get("aud")
    if found.get("iss") not in issuers:
        raise IntrospectionFailed(f"its signed response has iss {quoted(found.get('iss'))}")
    names = audience_claim if isinstance(audience_claim, list) else [audience_claim]
    if not any(isinstance(name, str) and name in audience for name in names):
        raise IntrospectionFailed(f"its signed response has aud {quoted(audience_claim)}")
    try:
        issued_at = jwt_claims.numeric_date({"iat": found.get("iat")}, "iat")
    except TokenError as error:
        raise IntrospectionFailed(f"its signed response: {error.remedy}") from None
    if abs(now - issued_at) > _MAX_AGE:
        raise IntrospectionFailed("its signed response is too old, or from the future")
    members = found.get("token_introspection")
    if not isinstance(members, dict):
        raise IntrospectionFailed("its signed response has no object token_introspection")
    return _members(members)


def endpoint_and_methods(body: bytes, issuer: str) -> tuple[str, tuple[str, ...]]:
    """Return the introspection endpoint in metadata, and its authentication methods (RFC 8414 §2).

    Without a list of methods, they are empty. Raises ValueError where the document is not the
    metadata of `issuer`, or has no endpoint.
    """
    published = metadata.parse(body, issuer)
    endpoint = metadata.endpoint(published, "introspection_endpoint", "endpoint=")
    listed = published.get("introspection_endpoint_auth_methods_supported")
    methods = listed if isinstance(listed, list) else []
    return endpoint, tuple(each for each in methods if isinstance(each, str))


def _is_of_token(status: int) -> bool:
    return status < _SERVER_ERROR and status not in _ENDPOINT_STATUSES


def _members(members: Mapping[str, Any]) -> dict[str, Any] | None:
    active = members.get("active")
    if active is False:
        return None
    if active is not True:  # "true", 1 and null are no JSON true
        raise IntrospectionFailed("its response has no boolean `active`")
    return {name: value for name, value in members.items() if name != "active"}


def _parse_signed(body: bytes) -> SignedResponse:
    try:
        token = jwt.parse(body.strip(), _MAX_RESPONSE)
        header = jwt.parse_header(token.header)
    except TokenError as error:
        raise IntrospectionFailed(f"its signed response: {error.remedy}") from None
    if jwt.media_type(header.typ) != names.INTROSPECTION_JWT:
        raise IntrospectionFailed(f"its signed response has typ {quoted(header.typ)}")
    return SignedResponse(header, token)


def _error_code(response: Response) -> str | None:
    """Return the OAuth error code of a response."""
    try:
        code = document.loads_object(response.body).get("error")
    except ValueError:
        return None
    return code if isinstance(code, str) else None
