"""The codes of all events, of the guard and of the server, by the level of their log lines.

`docs/observability.md` says when each is sent, and what its details are.
"""

from __future__ import annotations

# What clients resolve by themselves, what users decide, and what operators do.
INFO: frozenset[str] = frozenset(
    {
        # the guard
        *("missing_credentials", "expired", "inactive", "insufficient_scope", "nonce_required"),
        *("insufficient_user_authentication", "keys_fetched", "stream_ended"),
        *("security_event_applied", "event_stream_verified", "revocation_requested"),
        # the server: what it issues
        *("code_issued", "device_code_issued", "token_issued"),
        # users
        *("login_succeeded", "signed_out", "sessions_ended", "consent_given", "consent_refused"),
        *("upstream_logout", "consents_forgotten", "user_added", "user_disabled", "user_enabled"),
        "user_deleted",
        *("password_changed", "password_upgraded", "identity_linked", "identity_unlinked"),
        *("personal_token_added", "personal_token_ended"),
        # clients
        *("client_added", "client_removed", "client_secret_rotated", "client_secret_renewed"),
        *("client_registered", "client_metadata_fetched", "client_changed"),
        # revocations
        *("grant_revoked", "token_revoked", "user_revoked", "client_revoked"),
        # keys and the store
        *("key_made", "key_withdrawn", "key_retired", "keys_resealed"),
        *("store_migrated", "store_copied"),
    }
)
# What needs an operator's attention.
WARNING: frozenset[str] = frozenset(
    {
        # the guard: refusals of a token or a request
        *("malformed_credentials", "repeated_credentials", "malformed_token", "encrypted_token"),
        *("wrong_algorithm", "critical_header", "wrong_type", "id_token", "unknown_issuer"),
        *("unknown_key", "bad_signature", "bad_claim", "missing_claim", "wrong_audience"),
        *("not_yet_valid", "sender_constrained", "refused_by_check", "revoked", "lives_too_long"),
        *("wrong_key", "missing_proof", "malformed_proof", "repeated_proof", "wrong_proof_type"),
        *("wrong_proof_algorithm", "bad_proof_key", "bad_proof_signature", "wrong_proof_method"),
        *("wrong_proof_target", "untimely_proof", "wrong_proof_token", "wrong_content_digest"),
        *("replayed_proof", "unbound", "replays_unavailable", "body_too_long"),
        *("no_certificate", "wrong_certificate"),
        *("bad_status", "status_not_valid"),
        *("requirement_unmet", "bad_logout_token", "no_account", "preflight_refused"),
        *("message_refused", "session_refused", "bad_ticket", "origin_refused", "other_caller"),
        # the guard: 503, and what it depends on
        *("issuer_unavailable", "claim_check_failed", "url_not_resolved"),
        *("status_unavailable", "status_list_failed", "status_list_restored"),
        *("keys_fetch_failed", "keys_passed_over", "keys_restored"),
        *("introspection_failed", "introspection_restored"),
        *("introspection_cache_failed", "introspection_cache_restored"),
        *("revocations_unavailable", "revocations_available", "revocations_restored"),
        *("revocations_lost", "revocations_unreadable", "revocations_not_forwarded"),
        *("logout_failed", "bad_security_event", "security_event_failed"),
        *("security_event_ignored", "bad_revocation_request", "revocation_request_failed"),
        # the server
        *("request_refused", "client_authentication_failed", "assertion_replayed"),
        *("code_replayed", "refresh_token_reused", "login_failed", "login_throttled"),
        *("user_code_throttled",),
        *("revocation_not_notified", "store_unavailable", "store_restored", "upkeep_failed"),
        *("throttle_unavailable", "throttle_restored"),
        *("upstream_login_failed", "upstream_login_refused", "upstream_logout_failed"),
    }
)
