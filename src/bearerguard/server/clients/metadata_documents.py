"""Client id metadata documents: clients that are identified by the URL of what describes them.

As draft-ietf-oauth-client-id-metadata-document-02 has it. A document is fetched once however many
requests need it, and cached for as long as HTTP allows, within bounds. What cannot be fetched or
is not fit refuses the request: an older document is never used past its age, and nothing is stored
until a user has allowed the client something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from cachetools import LRUCache, TTLCache

from bearerguard.errors import BearerGuardError, ConfigurationError, quoted
from bearerguard.protocol.http import caching, document
from bearerguard.runtime.addresses import is_loopback
from bearerguard.runtime.fetching import Table, Transport, tables
from bearerguard.runtime.flow import Fetch, Flow, Once, arun, ask, run
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.server.audit import Audit
from bearerguard.server.clients import client as clients
from bearerguard.server.clients import client_metadata
from bearerguard.server.clients.client import Client, Rules
from bearerguard.server.clients.client_metadata import ClientMetadata, UnfitMetadata
from bearerguard.server.settings import DAY, check_duration, check_lifetime, checked_scopes

# The draft recommends 5 KB. A JWK Set may have several keys with certificates.
_MAX_DOCUMENT, _MAX_JWKS = 5 * 1024, 64 * 1024
# Seconds. A login consists of several requests, which must see one document; without a `max-age`
# an hour; and a client's keys may be withdrawn sooner than the rest changes.
_SHORTEST, _USUAL, _LONGEST_OF_KEYS = 60.0, 3600.0, 600.0
_MOST_KEPT = 1000
# Seconds for which a failure is the answer to all who ask for the same document. It is not cached
# longer, so that a document which has been mended is seen at once.
_FAILED = 1.0
# Documents of one host that may fail at once, and the seconds until one more: nobody can have this
# server ask a host again and again. It is a limit of each process.
_FAILURES, _INTERVAL = 10, 6.0
_MOST_HOSTS = 10_000
# Fetches at once; each takes a socket, and under WSGI a thread.
_MOST_AT_ONCE = 50
_ACCEPT = (("accept", "application/json"),)
_NOT_MODIFIED = 304
# A pattern of `allow=`: a host, or all below a domain.
_HOST = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*(?::[0-9]{1,5})?")
# A client that a stranger describes has no secret that this server could know (§4.1 of the draft).
_METHODS = frozenset({clients.NONE, clients.PRIVATE_KEY_JWT})
_SECRETS = ("client_secret", "client_secret_expires_at")
_WITH_SECRET = (clients.BASIC, clients.POST, "client_secret_jwt")

Policy = Callable[[str, Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientMetadataDocuments:
    """Accept clients that are identified by the URL of their metadata document.

    Args:
        allow: the hosts whose documents are accepted, such as "app.example.com", or
            "*.example.com" for all below it; by default every host's.
        policy: called with the URL and the members of each fetched document that is valid;
            the client is refused unless it returns True.
        scopes: the scopes that these clients may have; by default all of the server's.
        max_age: the longest time in seconds for which a document is used without asking again.
            Its own `Cache-Control` may shorten that, to a minute at least.
        timeout: seconds until a document must have arrived.
        unused_lifetime: seconds after which a client is forgotten that has no grant left.
        transport: what fetches the documents, instead of a `PinnedTransport`. It must refuse
            addresses that strangers must not reach.
        insecure_allow_loopback: also accept documents of this machine, by http too. For
            development and tests.

    Raises:
        ConfigurationError: an option is not valid.
    """

    allow: Sequence[str] | None = None
    policy: Policy | None = None
    scopes: Sequence[str] | None = None
    max_age: float = DAY
    timeout: float = 5.0
    unused_lifetime: float = 90 * DAY
    transport: Transport | None = field(default=None, repr=False)
    insecure_allow_loopback: bool = False

    def __post_init__(self) -> None:
        name = "ClientMetadataDocuments"
        given: object = self.allow
        if given is not None and (
            isinstance(given, str)
            or not isinstance(given, Sequence)
            or not all(isinstance(each, str) and _HOST.fullmatch(each) for each in given)
        ):
            raise ConfigurationError(
                f"{name}(allow=): pass a list of hosts in lower case, such as"
                ' ["app.example.com", "*.example.org"]'
            )
        if self.policy is not None and not callable(self.policy):
            raise ConfigurationError(
                f"{name}(policy=): pass a function of the URL and the document, which returns"
                " True or False"
            )
        checked_scopes(f"{name}(scopes=)", self.scopes)
        check_duration(f"{name}(max_age=)", self.max_age)
        check_lifetime(f"{name}(timeout=)", self.timeout)
        check_lifetime(f"{name}(unused_lifetime=)", self.unused_lifetime)


class DocumentRefused(BearerGuardError):
    """A client cannot be described by its document. The text is for the log.

    Attributes:
        reason: a stable name for the log.
        temporary: whether a later request may succeed without any change by the client.
    """

    def __init__(self, text: str, reason: str, *, temporary: bool = False) -> None:
        super().__init__(text)
        self.reason = reason
        self.temporary = temporary


@dataclass(frozen=True, slots=True)
class _Kept:
    """A client as its document describes it, until when, and what asks for a newer document."""

    client: Client
    until: float
    validators: tuple[tuple[str, str], ...]
    content: Mapping[str, Any]


class Documents:
    """The metadata documents that one server uses, in this process.

    Args:
        options: the operator's.
        rules: what clients are checked against.
        scopes: the scopes that these clients may have.
        clock: returns Unix seconds.
        elapsed: seconds that have passed since some fixed moment.
        audit: receives the events.
        further_grants: the grants that they may have besides those in which a user decides.
    """

    def __init__(
        self,
        options: ClientMetadataDocuments,
        *,
        rules: Rules,
        scopes: tuple[str, ...],
        clock: Callable[[], float],
        elapsed: Callable[[], float],
        audit: Audit,
        further_grants: tuple[str, ...] = (),
    ) -> None:
        self._options = options
        self._rules = rules
        self._further_grants = further_grants
        self._scopes = scopes
        self._clock = clock
        self._elapsed = elapsed
        self._audit = audit
        self._lock = ProcessLock()
        self._kept = LRUCache[str, _Kept](_MOST_KEPT)
        self._failed = TTLCache[str, DocumentRefused](_MOST_KEPT, _FAILED, timer=elapsed)
        # When the limit of each host has recovered fully (the generic cell rate algorithm).
        self._hosts = TTLCache[str, float](_MOST_HOSTS, _FAILURES * _INTERVAL, timer=elapsed)
        self._fetching = 0
        self._registered = LRUCache[str, bool](_MOST_KEPT)
        sync, asynchronous = tables(options.transport or _pinned(options))
        self._sync: Table = sync
        self._asynchronous: Table = asynchronous

    def covers(self, client_id: str) -> bool:
        """Whether a client id is the URL of a document rather than a registered name."""
        if client_id.startswith("https://"):
            return True
        return self._options.insecure_allow_loopback and client_id.startswith("http://")

    def client(self, client_id: str) -> Client:
        """Return the client that a document describes, in the calling thread.

        Raises `DocumentRefused`.
        """
        kept = self._fresh(client_id)
        return kept.client if kept is not None else run(self._single(client_id), self._sync)

    async def prepare(self, client_id: str) -> None:
        """Fetch a document ahead, in the running event loop, so that no thread waits for it."""
        if self._fresh(client_id) is None and client_id not in self._registered:
            # The request that needs it gets the same error.
            with suppress(DocumentRefused, ConfigurationError):
                await arun(self._single(client_id), self._asynchronous)

    def leave_out(self, client_id: str) -> None:
        """Do not fetch ahead what the id of a client that the operator registered leads to."""
        with self._lock:
            self._registered[client_id] = True

    def _fresh(self, url: str) -> _Kept | None:
        with self._lock:
            kept = self._kept.get(url)
        return kept if kept is not None and self._elapsed() < kept.until else None

    def _single(self, url: str) -> Flow[Client]:
        return (yield from ask(Once(url, lambda: self._load(url))))

    def _load(self, url: str) -> Flow[Client]:
        kept = self._fresh(url)
        if kept is not None:
            return kept.client
        host = self._admitted(url)
        try:
            kept = yield from self._fetched(url)
        except DocumentRefused as error:
            self._remember(url, host, error)
            raise
        finally:
            with self._lock:
                self._fetching -= 1
        with self._lock:
            self._kept[url] = kept
        seconds = int(kept.until - self._elapsed())
        self._audit.emit("client_metadata_fetched", client_id=url, seconds=seconds)
        return kept.client

    def _admitted(self, url: str) -> str:
        """Return the host of a document that may be fetched now; raises `DocumentRefused`."""
        host = self._checked_host(url)
        now = self._elapsed()
        with self._lock:
            failed = self._failed.get(url)
            if failed is not None:
                raise DocumentRefused(str(failed), failed.reason, temporary=failed.temporary)
            if self._hosts.get(host, now) - now > (_FAILURES - 1) * _INTERVAL:
                raise DocumentRefused(
                    f"too many documents of {host} have failed",
                    "document_host_limited",
                    temporary=True,
                )
            if self._fetching >= _MOST_AT_ONCE:
                raise DocumentRefused(
                    f"{_MOST_AT_ONCE} documents are being fetched",
                    "too_many_documents",
                    temporary=True,
                )
            self._fetching += 1
        return host

    def _remember(self, url: str, host: str, error: DocumentRefused) -> None:
        """Charge a failure to its host, and let it answer those who ask within a second."""
        now = self._elapsed()
        with self._lock:
            self._failed[url] = error
            self._hosts[host] = max(now, self._hosts.get(host, now)) + _INTERVAL

    def _checked_host(self, url: str) -> str:
        """Return the host of a client id; raises `DocumentRefused` for one that is no such URL."""
        fault = _fault(url, insecure=self._options.insecure_allow_loopback)
        if fault is not None:
            raise DocumentRefused(f"{quoted(url)} {fault}", "unfit_client_id")
        host = urlsplit(url).netloc.lower()
        if not _is_allowed(host, self._options.allow):
            raise DocumentRefused(
                f"{host} is not among ClientMetadataDocuments(allow=)", "document_not_allowed"
            )
        return host

    def _fetched(self, url: str) -> Flow[_Kept]:
        with self._lock:
            old = self._kept.get(url)
        response = yield from self._response(url, () if old is None else old.validators)
        if old is not None and old.validators and response.status == _NOT_MODIFIED:
            content = old.content
        else:
            content = _json(url, response, _MAX_DOCUMENT)
        metadata = self._metadata(url, content)
        client = self._described(url, metadata)
        seconds = self._seconds(response)
        if metadata.jwks_uri is not None:
            _check_jwks_uri(metadata.jwks_uri, url)
            keys = yield from self._response(metadata.jwks_uri, ())
            client = replace(client, jwks=_json(metadata.jwks_uri, keys, _MAX_JWKS))
            seconds = min(seconds, self._seconds(keys), _LONGEST_OF_KEYS)
        self._check(client)
        self._check_policy(url, content)
        return _Kept(
            client,
            self._elapsed() + seconds,
            caching.validators(response) or (() if old is None else old.validators),
            content,
        )

    def _response(self, url: str, headers: tuple[tuple[str, str], ...]) -> Flow[Response]:
        try:
            return (yield from ask(Fetch("GET", url, (*_ACCEPT, *headers))))
        except FetchFailed as error:
            raise _unfetched(error, temporary=error.temporary) from error

    def _seconds(self, response: Response) -> float:
        """Return for how many seconds a response is used."""
        seconds = caching.freshness(response)
        return min(self._options.max_age, max(_SHORTEST, _USUAL if seconds is None else seconds))

    def _metadata(self, url: str, content: Mapping[str, Any]) -> ClientMetadata:
        if content.get("client_id") != url:
            raise DocumentRefused(
                f"its client_id is {quoted(content.get('client_id'))}", "document_of_another_client"
            )
        method = content.get("token_endpoint_auth_method")
        if method in _WITH_SECRET or any(name in content for name in _SECRETS):
            raise DocumentRefused(
                "a metadata document has no shared secret: use none, private_key_jwt, or a"
                " certificate where the server takes one",
                "document_with_secret",
            )
        try:
            return client_metadata.read(
                content,
                auth_methods=client_metadata.with_certificates(_METHODS, self._rules.methods),
                default_method=clients.NONE,
                name=urlsplit(url).netloc.lower(),
                takes_certificates=self._rules.settings.mutual_tls is not None,
                further_grants=self._further_grants,
            )
        except UnfitMetadata as error:
            raise DocumentRefused(str(error), f"document_{error.reason}") from None

    def _described(self, url: str, metadata: ClientMetadata) -> Client:
        return Client(
            client_id=url,
            name=metadata.name,
            auth_method=metadata.auth_method,
            grant_types=metadata.grant_types,
            redirect_uris=metadata.redirect_uris,
            scopes=self._scopes,
            origins=metadata.origins,
            jwks=metadata.jwks,
            dpop_bound_access_tokens=metadata.dpop_bound_access_tokens,
            require_pushed_authorization_requests=(metadata.require_pushed_authorization_requests),
            certificate_name=metadata.certificate_name,
            tls_client_certificate_bound_access_tokens=(
                metadata.tls_client_certificate_bound_access_tokens
            ),
            created_at=self._clock(),
            registered_by=clients.BY_DOCUMENT,
        )

    def _check(self, client: Client) -> None:
        try:
            clients.check(client, self._rules)
        except ConfigurationError as error:
            raise DocumentRefused(str(error), "document_unfit") from None

    def _check_policy(self, url: str, content: Mapping[str, Any]) -> None:
        policy = self._options.policy
        if policy is None:
            return
        try:
            trusted: object = policy(url, content)
        except Exception as error:
            raise ConfigurationError(
                "ClientMetadataDocuments(policy=): the function failed"
            ) from error
        if trusted is not True:
            raise DocumentRefused("the policy refused it", "document_not_trusted")


def _pinned(options: ClientMetadataDocuments) -> Transport:
    from bearerguard.transports.pinned import PinnedTransport  # noqa: PLC0415 - built lazily

    return PinnedTransport(
        timeout=options.timeout,
        max_bytes=_MAX_JWKS,
        insecure_allow_loopback=options.insecure_allow_loopback,
    )


def _fault(url: str, *, insecure: bool) -> str | None:
    """Return why a URL is no client id of a document (§3 of the draft), None if it is one."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "is no URL"
    usable = parts.scheme == "https" or (insecure and is_loopback(host))
    segments = unquote(parts.path).split("/")
    faults = (
        (len(url) > clients.MAX_ID, f"is longer than {clients.MAX_ID} characters"),
        (not url.isascii() or not url.isprintable() or " " in url, "has characters of no URL"),
        (not usable or not host, "is no https URL"),
        (parts.path in {"", "/"}, "has no path"),
        (not {".", ".."}.isdisjoint(segments), "has dot segments"),
        ("#" in url, "has a fragment"),
        ("@" in parts.netloc, "has a user part"),
    )
    return next((words for is_fault, words in faults if is_fault), None)


def _is_allowed(host: str, allow: Collection[str] | None) -> bool:
    if allow is None or host in allow:
        return True
    return any(each.startswith("*.") and host.endswith(each[1:]) for each in allow)


def _json(url: str, response: Response, most: int) -> dict[str, Any]:
    if len(response.body) > most:
        raise DocumentRefused(f"{url}: longer than {most} bytes", "document_too_large")
    try:
        return document.json_object(url, response)
    except FetchFailed as error:
        raise _unfetched(error, temporary=document.is_unavailable(response)) from error


def _unfetched(error: FetchFailed, *, temporary: bool) -> DocumentRefused:
    return DocumentRefused(str(error), f"document_{error.kind or 'failed'}", temporary=temporary)


def _check_jwks_uri(jwks_uri: str, url: str) -> None:
    """Raise `DocumentRefused` unless the keys come from where the document does.

    Else a document could have this server ask any host, and a host that serves JSON of others
    would lend them its keys.
    """
    try:
        found, own = urlsplit(jwks_uri), urlsplit(url)
    except ValueError:
        found, own = urlsplit(""), urlsplit(url)
    if (found.scheme, found.netloc.lower()) != (own.scheme, own.netloc.lower()):
        raise DocumentRefused(
            f"its jwks_uri {quoted(jwks_uri)} is not of the document's origin",
            "document_jwks_elsewhere",
        )
