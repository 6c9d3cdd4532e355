"""Formatters and the observer that logs: what a line holds, for people and for programs."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from typing import Any

import pytest

from bearerguard import DecisionRecord, Event, FetchRecord, Guard, Request, TokenError, scopes
from bearerguard.logs import JsonFormatter, LogObserver, TextFormatter
from bearerguard.server import AuthorizationServer
from bearerguard.testing import LocalIssuer


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


@pytest.fixture
def lines() -> Generator[list[logging.LogRecord]]:
    """The records of all loggers of the package, debug ones included."""
    found: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    logger, handler = logging.getLogger("bearerguard"), Keeping()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(before)


def parsed(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    fields: dict[str, Any] = json.loads(text)
    return fields


def made(**extra: Any) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "bearerguard", "levelname": "WARNING", "msg": "%s is %s", "args": ("it", "so")}
    )
    record.created = 1795892172.8393
    vars(record).update(extra)
    return record


def test_a_line_of_text_begins_with_the_time_in_utc() -> None:
    assert TextFormatter().format(made()) == (
        "2026-11-28T18:56:12.839Z WARNING bearerguard it is so"
    )


def test_a_line_of_json_has_the_time_and_the_fields() -> None:
    assert parsed(made(code="expired", issuer=None, details={"kid": "k"}, odd={1}, time="x")) == {
        "time": "2026-11-28T18:56:12.839Z",
        "level": "WARNING",
        "logger": "bearerguard",
        "message": "it is so",
        "code": "expired",
        "issuer": None,
        "details": {"kid": "k"},
        "odd": "{1}",
    }


def test_an_exception_is_one_member_of_one_line() -> None:
    try:
        int("no number")
    except ValueError as error:
        record = made(exc_info=(type(error), error, error.__traceback__), stack_info="the stack")
    fields = parsed(record)
    assert fields["exception"].endswith("'no number'")
    assert fields["stack"] == "the stack"


def test_the_line_of_a_refusal_has_its_code_its_issuer_and_its_request(
    issuer: LocalIssuer, lines: list[logging.LogRecord]
) -> None:
    with issuer.guard(require=scopes("write")) as guard:
        headers = {"Authorization": f"Bearer {issuer.token(subject='ada')}", "X-Request-ID": "r1"}
        guard.run(guard.authenticate(Request("POST", "/recordings?secret=1", headers)))
    record = lines[-1]
    assert isinstance(vars(record)["event"], Event)
    fields = parsed(record)
    assert (fields["code"], fields["issuer"]) == ("insufficient_scope", issuer.url)
    assert fields["details"]["method"] == "POST"
    assert fields["details"]["path"] == "/recordings"
    assert fields["details"]["request_id"] == "r1"
    assert "event" not in fields
    assert not {"ada", "secret"} & set(json.dumps(fields).split('"'))


def test_the_line_of_a_server_s_event_has_its_details(
    tmp_path: Any, lines: list[logging.LogRecord]
) -> None:
    url = "https://id.example.com"
    server = AuthorizationServer(url, store=f"sqlite:///{tmp_path}/auth.db", secret="s" * 32)
    fields = next(parsed(each) for each in lines if vars(each).get("code") == "key_made")
    server.close()
    assert (fields["logger"], fields["issuer"]) == ("bearerguard.server", url)
    assert fields["details"]["algorithm"] == "RS256"


def test_decisions_and_fetches_are_logged_with_their_fields_at_fitting_levels(
    issuer: LocalIssuer, lines: list[logging.LogRecord]
) -> None:
    with issuer.guard(observers=[LogObserver()]) as guard:
        guard.verify(issuer.token())
        with pytest.raises(TokenError):
            guard.verify("a.b.c")
    seen = [
        (each.name.removeprefix("bearerguard."), each.levelname, each.getMessage().split(" in ")[0])
        for each in lines
        if each.name != "bearerguard"
    ]
    assert seen == [
        ("fetches", "DEBUG", "metadata: ok"),
        ("fetches", "DEBUG", "jwks: ok"),
        ("decisions", "DEBUG", "token: allow"),
        ("decisions", "INFO", "token: deny (malformed_token)"),
    ]
    refused = parsed(lines[-1])
    assert (refused["kind"], refused["reason"], refused["status"]) == (
        *("token", "malformed_token", 401),
    )


def test_outages_are_warnings(lines: list[logging.LogRecord]) -> None:
    observer = LogObserver()
    observer.decided(
        DecisionRecord("request", "unavailable", "issuer_unavailable", None, 503, False, False, 0.1)
    )
    observer.fetched(FetchRecord("jwks", "failed", "tls", "i", "GET", None, None, None, 0.1))
    assert [each.levelname for each in lines] == ["WARNING", "WARNING"]


def test_what_is_not_logged_costs_no_record(
    issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "bearerguard")
    observer = LogObserver()
    with Guard(issuer.issuer(), transport=issuer.transport(), observers=[observer]) as guard:
        guard.verify(issuer.token())
    assert caplog.records == []
