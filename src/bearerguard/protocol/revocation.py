"""The vocabulary of revocation: what can be revoked, and the name it has in each place.

A guard's API takes the claim names of `Principal`, a token has the short names of its RFC, and
the shared log has a kind. This table is the one home of all three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["token", "subject", "client", "session", "sessionless", "signing_key"]
"""What a revocation in the log names.

`session` covers the tokens of one session, `sessionless` those tokens of a subject that name no
session, and `signing_key` every token that the key has signed.
"""
Argument: TypeAlias = Literal["token_id", "subject", "client_id", "session_id", "key_id"]
Claim: TypeAlias = Literal["jti", "sub", "client_id", "sid", "kid"]


class Revocable(NamedTuple):
    """Something that can be revoked by name.

    Attributes:
        kind: its kind in the log.
        argument: the argument of `Guard.revoke`.
        claim: where a token carries the name: a claim, or the header parameter `kid`.
    """

    kind: Kind
    argument: Argument
    claim: Claim


REVOCABLE = (
    Revocable("token", "token_id", "jti"),  # RFC 7519 §4.1.7
    Revocable("subject", "subject", "sub"),  # RFC 7519 §4.1.2
    Revocable("client", "client_id", "client_id"),  # RFC 9068 §2.2
    Revocable("session", "session_id", "sid"),  # OpenID Connect Back-Channel Logout 1.0 §2.1
    Revocable("signing_key", "key_id", "kid"),  # RFC 7515 §4.1.4
)
KIND_OF_CLAIM: Mapping[Claim, Kind] = {each.claim: each.kind for each in REVOCABLE}
ARGUMENT_OF_CLAIM: Mapping[Claim, Argument] = {each.claim: each.argument for each in REVOCABLE}
