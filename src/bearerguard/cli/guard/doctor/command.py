"""The command `bearerguard doctor`: finds out what its target is, examines it, and reports."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import httpx2
import typer

from bearerguard import Guard
from bearerguard.cli import output
from bearerguard.cli.guard.app_guard import app_guard
from bearerguard.cli.guard.doctor import api, issuer, report, server, web
from bearerguard.cli.guard.doctor.exchange import Exchange, Requester
from bearerguard.cli.guard.doctor.finding import Finding, Severity
from bearerguard.cli.guard.doctor.issuer import Discovered
from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.protocol import metadata
from bearerguard.runtime.extras import Extra
from bearerguard.transports.http import HttpTransport

if TYPE_CHECKING:
    from bearerguard.cli.guard.doctor.store import Stored

_MAX_TIMEOUT = 30.0
_ISSUER_VARIABLE = "BEARERGUARD_ISSUER"


def doctor(
    *,
    target: Annotated[
        str | None,
        typer.Argument(
            help="The URL of an issuer, or of an API's guarded route. By default the issuers of the"
            " guard."
        ),
    ] = None,
    as_issuer: Annotated[
        bool, typer.Option("--issuer", help="Examine TARGET as an issuer alone.")
    ] = False,
    as_api: Annotated[bool, typer.Option("--api", help="Examine TARGET as an API alone.")] = False,
    as_server: Annotated[
        bool,
        typer.Option(
            "--server",
            help="Audit TARGET by RFC 9700, even if it is not recognised as a bearerguard"
            " authorization server.",
        ),
    ] = False,
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="MODULE:NAME",
            help="Your guard, or the app that has it, as a server imports it: its configuration is"
            " compared with what is found. By default the guard of the environment, if"
            f" {_ISSUER_VARIABLE} is set.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="The database of a bearerguard server, to examine its clients and keys too; it is"
            " only read. Such as sqlite:///auth.db."
        ),
    ] = None,
    client_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="With --redirect-uri: a registered client, by which the audit examines PKCE and"
            " pages. By default one of --store.",
        ),
    ] = None,
    redirect_uri: Annotated[
        str | None, typer.Option(help="A registered redirect URI of --client-id.")
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Certificates of authorities to trust besides the usual ones, PEM."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="The longest time for one response.")
    ] = 5.0,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Explain what is as expected, too.")
    ] = False,
    json: output.Json = False,
) -> None:
    """Examine an issuer, an API or an authorization server, and say what to fix.

    Sends some tens of requests without credentials, and changes nothing. The exit code is 0 if
    there is no problem, 1 if there is one, and 75 if the target cannot be reached.
    """
    with output.endings(json=json):
        if as_issuer and as_api:
            raise ConfigurationError("--issuer, --api: choose one of them, or none for both")
        if (client_id is None) != (redirect_uri is None):
            raise ConfigurationError("--client-id, --redirect-uri: pass both, or none")
        known = _guard_issuers(app)
        targets = _targets(target, known)
        context = _ssl_context(ca_file)
        if not 0 < timeout <= _MAX_TIMEOUT:
            raise ConfigurationError(f"--timeout: choose up to {_MAX_TIMEOUT:g} seconds")
        stored = None if store is None else _stored(store)
        client = None
        if client_id is not None and redirect_uri is not None:
            client = server.KnownClient(client_id, redirect_uri)
        reports: list[report.Report] = []
        for each in targets:
            transport = HttpTransport(timeout=timeout, ssl_context=context)
            requester = Requester(transport, context, timeout=timeout)
            wanted = _Wanted(each, as_issuer, as_api, as_server, known, client, stored)
            with output.waiting(f"Examining {each} …"):
                reports.append(examined(requester, wanted))
    _print(reports, verbose=verbose, json=json)
    raise typer.Exit(max(map(_exit_code, reports)))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to examine, as what, and what is known of it."""

    target: str
    as_issuer: bool
    as_api: bool
    as_server: bool
    guard: Sequence[Issuer]
    client: server.KnownClient | None
    stored: Stored | None

    @property
    def audits(self) -> bool:
        """Whether the user says that the target is an authorization server to audit."""
        return self.as_server or self.client is not None or self.stored is not None


def examined(requester: Requester, wanted: _Wanted) -> report.Report:
    """Examine one target."""
    began = time.monotonic()
    findings: list[Finding] = []
    kinds = []
    trusted = next((each for each in wanted.guard if each.url == wanted.target), None)
    found = None if wanted.as_api else issuer.discovered(requester, wanted.target, trusted)
    first = None if wanted.as_issuer else api.first_request(requester, wanted.target)
    if all(each.response is None for each in requester.exchanges):
        findings += web.unreached(requester, requester.exchanges[0])
    else:
        if _is_issuer(requester, wanted, found, first) and found is not None:
            kinds.append("issuer")
            findings += issuer.findings(requester, found, trusted)
            if wanted.audits or server.is_ours(found):
                kinds.append("server")
                findings += _audited(requester, wanted, found)
        if first is not None and _is_api(wanted, found, first):
            kinds.append("api")
            findings += api.findings(requester, wanted.target, wanted.guard)
    findings += web.speed(requester.exchanges)
    if requester.left_out:
        findings.append(web.LIMIT.warning(f"{requester.left_out} requests were not sent"))
    return report.Report(
        wanted.target,
        tuple(kinds),
        tuple(dict.fromkeys(findings)),
        sum(each.response is not None for each in requester.exchanges),
        time.monotonic() - began,
    )


def _is_issuer(
    requester: Requester, wanted: _Wanted, found: Discovered | None, first: Exchange | None
) -> bool:
    forced = wanted.as_issuer or wanted.audits
    if found is None or forced or found.published is not None:
        return found is not None
    # A target that sends a challenge is an API. An endpoint is at a path below its issuer.
    challenges = first is not None and api.bearer_challenge(first) is not None
    return not challenges and issuer.parent(requester, wanted.target) is not None


def _is_api(wanted: _Wanted, found: Discovered | None, first: Exchange) -> bool:
    is_issuer = found is not None and found.published is not None
    return wanted.as_api or not is_issuer or api.bearer_challenge(first) is not None


def _audited(requester: Requester, wanted: _Wanted, found: Discovered) -> Iterator[Finding]:
    client = wanted.client
    if wanted.stored is None:
        yield from server.findings(requester, found, client)
        return
    from bearerguard.cli.guard.doctor import store  # noqa: PLC0415 - an extra

    yield from server.findings(requester, found, client or store.known_client(wanted.stored))
    yield from store.findings(wanted.stored, requester.clock())


def _stored(given: str) -> Stored:
    with Extra("server", needed_by="--store"):
        from bearerguard.cli.guard.doctor import store  # noqa: PLC0415 - an extra
    return store.read(given, time.time())


def _guard_issuers(path: str | None) -> tuple[Issuer, ...]:
    if path is not None:
        return app_guard(path).guard.issuers
    return Guard.from_env().issuers if os.environ.get(_ISSUER_VARIABLE) else ()


def _targets(target: str | None, known: Sequence[Issuer]) -> tuple[str, ...]:
    if target is None:
        if not known:
            raise ConfigurationError("TARGET: pass the URL of an issuer or an API")
        single = tuple(each.url for each in known if each.tenants is None)
        if not single:
            raise ConfigurationError("TARGET: pass the URL of one tenant's issuer")
        return single
    if "@" in urlsplit(target).netloc:
        raise ConfigurationError("TARGET: remove the user and the password from this URL")
    if not (metadata.is_https(target) or metadata.is_http(target)):
        raise ConfigurationError(
            f"TARGET: pass an https URL without a fragment, not {quoted(target)}"
        )
    return (target,)


def _ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    context = httpx2.create_ssl_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"--ca-file: {ca_file} cannot be read as certificates in PEM ({error.strerror})"
            ) from error
    return context


def _print(reports: Sequence[report.Report], *, verbose: bool, json: bool) -> None:
    if json:
        output.as_json({"reports": [each.as_members() for each in reports]})
        return
    for position, each in enumerate(reports):
        if position:
            output.say("")
        for line in report.lines(each, verbose=verbose):
            output.markup(line)


def _exit_code(found: report.Report) -> int:
    if any(each.check == web.REACHED.check for each in found.findings):
        return output.UNAVAILABLE
    return output.FAILED if found.count(Severity.PROBLEM) else 0
