"""Names that the RFCs of OAuth and HTTP fix and several subjects use; each is defined here once.

The names of one subject are in its file: the methods of `client_authentication`, the paths
of `metadata` and `resource_metadata`, `pkce.METHOD`. The error codes of RFC 6750 are attributes of
the refusals in `errors`.
"""

from __future__ import annotations

# ruff: noqa: S105 - names of tokens and secrets, not tokens and secrets

# Grant types (RFC 6749 §4, RFC 8628 §3.4)
AUTHORIZATION_CODE = "authorization_code"
CLIENT_CREDENTIALS = "client_credentials"
REFRESH_TOKEN = "refresh_token"
# The scope that asks for a refresh token (OpenID Connect Core §11).
OFFLINE_ACCESS = "offline_access"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523 §2.1
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # RFC 8693 §2.1

# How the URI of a pushed authorization request begins (RFC 9126 §2.2)
REQUEST_URI = "urn:ietf:params:oauth:request_uri:"

# The types of tokens in a token exchange (RFC 8693 §3)
TYPE_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
TYPE_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
TYPE_JWT = "urn:ietf:params:oauth:token-type:jwt"
TYPE_ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"

# The profile of `JWT_BEARER` whose assertions are ID-JAGs, as metadata name it
ID_JAG_PROFILE = "urn:ietf:params:oauth:grant-profile:id-jag"

# What `token_type_hint` names (RFC 7009 §2.1); the other one is `REFRESH_TOKEN`.
ACCESS_TOKEN = "access_token"

# Types of access tokens, as `token_type` has them, and schemes of HTTP (RFC 6750, RFC 9449 §7.1)
BEARER = "Bearer"
DPOP = "DPoP"
BASIC = "Basic"

# The subprotocols after which a browser sends a token, or a ticket for it
BEARER_SUBPROTOCOL = "bearer"
TICKET_SUBPROTOCOL = "bearer-ticket"
# Signature algorithms of DPoP proofs, the preferred first: RFC 9449 §7.1 leaves them open.
DPOP_ALGORITHMS = (
    *("ES256", "EdDSA", "Ed25519", "ES384", "ES512"),
    *("PS256", "PS384", "PS512", "RS256", "RS384", "RS512"),
)

# Codes that close a websocket (RFC 6455 §7.4.1, and IANA's registry)
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013

# Error codes of the authorization and the token endpoint (RFC 6749 §4.1.2.1, §5.2)
ACCESS_DENIED = "access_denied"
INVALID_CLIENT = "invalid_client"
INVALID_GRANT = "invalid_grant"
INVALID_REQUEST = "invalid_request"
INVALID_SCOPE = "invalid_scope"
SERVER_ERROR = "server_error"
TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
UNAUTHORIZED_CLIENT = "unauthorized_client"
UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
UNSUPPORTED_RESPONSE_TYPE = "unsupported_response_type"
# … and those of its extensions
AUTHORIZATION_PENDING = "authorization_pending"  # RFC 8628 §3.5
EXPIRED_TOKEN = "expired_token"  # RFC 8628 §3.5
SLOW_DOWN = "slow_down"  # RFC 8628 §3.5
INVALID_DPOP_PROOF = "invalid_dpop_proof"  # RFC 9449 §5, §7.1
USE_DPOP_NONCE = "use_dpop_nonce"  # RFC 9449 §8, §9
INVALID_TARGET = "invalid_target"  # RFC 8707 §2
UNSUPPORTED_TOKEN_TYPE = "unsupported_token_type"  # RFC 7009 §2.2.1
LOGIN_REQUIRED = "login_required"  # OpenID Connect Core §3.1.2.6
INVALID_TOKEN = "invalid_token"  # RFC 6750 §3.1
INSUFFICIENT_SCOPE = "insufficient_scope"  # RFC 6750 §3.1
INSUFFICIENT_USER_AUTHENTICATION = "insufficient_user_authentication"  # RFC 9470 §3

# The types of JWTs, as `typ` has them, without "application/"
ACCESS_TOKEN_JWT = "at+jwt"  # RFC 9068 §2.1
LOGOUT_TOKEN_JWT = "logout+jwt"  # OpenID Connect Back-Channel Logout §2.4
DPOP_PROOF_JWT = "dpop+jwt"  # RFC 9449 §4.2
STATUS_LIST_JWT = "statuslist+jwt"  # draft-ietf-oauth-status-list §5.1
SECURITY_EVENT_JWT = "secevent+jwt"  # RFC 8417 §2.3
GLOBAL_REVOCATION_JWT = "global-token-revocation+jwt"  # draft-parecki-oauth-global-token-revocation
INTROSPECTION_JWT = "token-introspection+jwt"  # RFC 9701 §4
ID_JAG_JWT = "oauth-id-jag+jwt"  # draft-ietf-oauth-identity-assertion-authz-grant
AUTHORIZATION_GRANT_JWT = "authorization-grant+jwt"  # draft-ietf-oauth-rfc7523bis
CLIENT_AUTHENTICATION_JWT = "client-authentication+jwt"  # draft-ietf-oauth-rfc7523bis

# HTTP header fields
AUTHORIZATION = "Authorization"  # RFC 9110 §11.6.2
WWW_AUTHENTICATE = "WWW-Authenticate"  # RFC 9110 §11.6.1
RETRY_AFTER = "Retry-After"  # RFC 9110 §10.2.3
DPOP_PROOF = "DPoP"  # RFC 9449 §4.1
DPOP_NONCE = "DPoP-Nonce"  # RFC 9449 §8.1

# Media types
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
