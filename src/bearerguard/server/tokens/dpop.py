"""DPoP proofs at the token endpoint (RFC 9449 §5, §8): who sends one gets tokens bound to its key.

The server's own API for tokens of its users checks the proofs of bound tokens here, too (§7).

A proof is checked before the client authenticates, so that a demand for a nonce uses up no client
assertion, and used after that. One row decides which request used it, for all processes. A request
without a proof costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable

from bearerguard.errors import REPLAYED_PROOF, NonceRequired, ProofError, TokenError
from bearerguard.protocol import dpop, names
from bearerguard.protocol.dpop import CheckedProof
from bearerguard.runtime.messages import Request
from bearerguard.server.clients.client import Client
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import OFF, REQUIRED, Settings
from bearerguard.server.store import clients as rows
from bearerguard.server.store.database import Database

# Seconds for which a used proof is stored after its end: a machine whose clock is ahead must not
# prune what one whose clock is behind still accepts.
_SKEW = 600.0


class TokenRequestProofs:
    """The DPoP proofs of token requests.

    Args:
        url: the token endpoint's, which each proof must name whatever the request's Host is.
        database: records which proofs were used.
        secret: keys the nonces, which each process with it accepts.
        settings: the server's.
        clock: returns Unix seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        database: Database,
        secret: ServerSecret,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._target = dpop.target(url)
        self._database = database
        self._secret = secret
        self._clock = clock
        self._is_off = settings.dpop == OFF
        self._is_required = settings.dpop == REQUIRED
        self._nonces: dpop.Nonces | None = None
        if settings.dpop_nonces:
            keys = secret.derived("DPoP nonces")
            self._nonces = dpop.Nonces(keys, purpose="authorization server")
        self._checker = dpop.ProofChecker(nonces=self._nonces)

    def check(self, request: Request, parameters: Parameters) -> CheckedProof | None:
        """Return the proof of a request, None if it has none or none is read.

        Raises `OAuthError` if the proof is not valid, or lacks a recent nonce. The client has not
        authenticated yet: the log has the one that the parameters name.
        """
        fields = request.values(b"dpop")
        if not fields or self._is_off:
            return None
        now = self._clock()
        try:
            return self._checker.check(fields, method=request.method, target=self._target, now=now)
        except ProofError as error:
            demanded = isinstance(error, NonceRequired)
            refusal = _refused(error, *(self._fresh_nonce(now) if demanded else ()))
            refusal.note(client_id=parameters.get("client_id"))
            raise refusal from error

    def needs_proof(self, client: Client) -> bool:
        """Whether a client gets no token without a proof (§5.2)."""
        return self._is_required or client.dpop_bound_access_tokens

    def use(self, proof: CheckedProof) -> None:
        """Record that a proof was used (§11.1); raises `OAuthError` if it was used before."""
        digests = self._secret.digests("DPoP proof", proof.replay_key.hex())
        with self._database.write(concurrent=True) as connection:
            is_first = rows.use_once(connection, digests, proof.expires_at + _SKEW)
        if not is_first:
            raise _refused(ProofError(REPLAYED_PROOF, "make a new proof for each request"))

    def next_nonce(self, proof: CheckedProof) -> tuple[tuple[str, str], ...]:
        """Return the header field with a client's next nonce, if its last one is old (§8.2)."""
        now = self._clock()
        if self._nonces is None or not self._nonces.is_old(proof.nonce or "", now):
            return ()
        return self._fresh_nonce(now)

    def check_bound(self, request: Request, url: str, token: bytes, jkt: str) -> None:
        """Check, and use, the proof of a request to `url` whose token is bound to a key (§7.1).

        `jkt` is the thumbprint of that key. Raises `OAuthError`, a `TokenError` of whose key is
        another one included.
        """
        now = self._clock()
        try:
            proof = self._checker.check(
                request.values(b"dpop"),
                method=request.method,
                target=dpop.target(url),
                now=now,
                token_digest=dpop.token_digest(token.decode("ascii")),
                jkt=jkt,
            )
        except ProofError as error:
            demanded = isinstance(error, NonceRequired)
            raise _refused(error, *(self._fresh_nonce(now) if demanded else ())) from error
        except TokenError as error:
            raise OAuthError(
                names.INVALID_TOKEN, error.reason.description, reason=error.reason.code
            ) from error
        self.use(proof)

    def _fresh_nonce(self, now: float) -> tuple[tuple[str, str], ...]:
        return () if self._nonces is None else ((names.DPOP_NONCE, self._nonces.make(now)),)


def missing_proof() -> OAuthError:
    """Return the refusal of a request that needs a proof and has none."""
    return OAuthError(
        names.INVALID_DPOP_PROOF,
        "The client must send a DPoP proof (RFC 9449)",
        reason="missing_dpop_proof",
    )


def _refused(error: ProofError, *headers: tuple[str, str]) -> OAuthError:
    return OAuthError(
        error.error,
        error.reason.description,
        reason=error.reason.code,
        headers=headers,
        detail=error.remedy,
    )
