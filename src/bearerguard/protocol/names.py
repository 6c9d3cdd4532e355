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
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"

# What `token_type_hint` names (RFC 7009 §2.1); the other one is `REFRESH_TOKEN`.
ACCESS_TOKEN = "access_token"

# Types of access tokens, as `token_type` has them, and schemes of HTTP (RFC 6750, RFC 9449 §7.1)
BEARER = "Bearer"
DPOP = "DPoP"
BASIC = "Basic"

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
INSUFFICIENT_USER_AUTHENTICATION = "insufficient_user_authentication"  # RFC 9470 §3

# The types of JWTs, as `typ` has them, without "application/"
ACCESS_TOKEN_JWT = "at+jwt"  # RFC 9068 §2.1
LOGOUT_TOKEN_JWT = "logout+jwt"  # OpenID Connect Back-Channel Logout §2.4
DPOP_PROOF_JWT = "dpop+jwt"  # RFC 9449 §4.2
INTROSPECTION_JWT = "token-introspection+jwt"  # RFC 9701 §4

# HTTP header fields
AUTHORIZATION = "Authorization"  # RFC 9110 §11.6.2
WWW_AUTHENTICATE = "WWW-Authenticate"  # RFC 9110 §11.6.1
RETRY_AFTER = "Retry-After"  # RFC 9110 §10.2.3
DPOP_PROOF = "DPoP"  # RFC 9449 §4.1
DPOP_NONCE = "DPoP-Nonce"  # RFC 9449 §8.1

# Media types
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
