"""Formatters and the observer that logs: what a line holds, for people and for programs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from bearerguard import (
    DecisionRecord,
    Event,
    FetchRecord,
    Guard,
    Request,
    TokenError,
    logs,
    scopes,
)
from bearerguard.logs import BackgroundHandler, JsonFormatter, LogObserver, TextFormatter
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


class _Output(logging.Handler):
    """An output that a test blocks: it writes nothing while `open` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()
        self.written: list[dict[str, Any]] = []
        self.threads: set[int] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        assert self.open.wait(30)
        self.threads.add(threading.get_ident())
        self.written.append(json.loads(self.format(record)))

    @property
    def messages(self) -> list[str]:
        return [each["message"] for each in self.written]


@pytest.fixture
def output() -> _Output:
    return _Output()


@contextmanager
def _logging_to(handler: logging.Handler) -> Generator[logging.Logger]:
    logger = logging.getLogger("a.slow.output")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.close()


def test_another_thread_writes_the_lines_in_their_order(output: _Output) -> None:
    handler = BackgroundHandler(output)
    with _logging_to(handler) as log:
        for number in range(100):
            log.info("line %d", number)
        handler.flush()
        assert output.messages == [f"line {number}" for number in range(100)]
    assert threading.get_ident() not in output.threads


def test_a_line_is_written_without_a_flush(output: _Output) -> None:
    handler = BackgroundHandler(output)
    with _logging_to(handler) as log:
        log.info("first")
        assert output.reached.wait(30)
        handler.flush()
        output.reached.clear()
        log.info("second")
        assert output.reached.wait(30), "a flush must not stop the thread"


def test_the_lines_of_a_moment_are_written_together(
    output: _Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_COLLECT_SECONDS", 30)
    handler = BackgroundHandler(output)
    with _logging_to(handler) as log:
        for number in range(3):
            log.info("line %d", number)
        assert output.messages == []
        handler.flush()
        assert output.messages == ["line 0", "line 1", "line 2"]


def test_a_blocked_output_delays_nobody_and_what_does_not_fit_is_counted(output: _Output) -> None:
    handler = BackgroundHandler(output, most=10)
    with _logging_to(handler) as log:
        output.open.clear()
        log.info("the one that blocks")
        assert output.reached.wait(30)
        for number in range(25):
            log.info("line %d", number)
        assert (handler.lost, output.messages) == (15, [])
        output.open.set()
        handler.flush()
        expected = ["the one that blocks", *(f"line {number}" for number in range(10))]
        assert output.messages == [*expected, 'log_lines_lost {"lost": 15}']
        assert output.written[-1]["level"] == "WARNING"
        log.info("and on")
        handler.flush()
        assert output.messages[-1] == "and on", "a loss is reported once"


def test_while_lines_go_on_being_lost_a_line_says_so_now_and_then(output: _Output) -> None:
    now = [0.0]
    handler = BackgroundHandler(output, most=2, monotonic=lambda: now[0])
    with _logging_to(handler) as log:
        output.open.clear()
        log.info("first")
        assert output.reached.wait(30)
        for _ in range(5):
            log.info("more")
        now[0] = 11.0
        output.open.set()
        handler.flush()
        assert output.messages.index('log_lines_lost {"lost": 3}') == 1


def test_an_argument_that_changes_is_printed_as_it_was(output: _Output) -> None:
    handler = BackgroundHandler(output)
    with _logging_to(handler) as log:
        output.open.clear()
        names = ["a"]
        log.info("names: %s", names)
        log.info("named: %(name)s", {"name": names})
        names.append("b")
        output.open.set()
        handler.flush()
    assert output.messages == ["names: ['a']", "named: ['a']"]


def test_an_exception_keeps_its_traceback(output: _Output) -> None:
    handler = BackgroundHandler(output)
    with _logging_to(handler) as log:
        try:
            int("no number")
        except ValueError:
            log.exception("failed")
        handler.flush()
    assert "test_an_exception_keeps_its_traceback" in output.written[0]["exception"]


def test_the_level_of_the_output_is_respected(output: _Output) -> None:
    output.setLevel(logging.WARNING)
    handler = BackgroundHandler(output)
    with _logging_to(handler) as log:
        log.info("left out")
        log.warning("written")
        handler.flush()
    assert output.messages == ["written"]


def test_closing_writes_what_waits_and_later_lines_are_written_at_once(output: _Output) -> None:
    handler = BackgroundHandler(output)
    with _logging_to(handler) as log:
        log.info("before")
        handler.close()
        assert output.messages == ["before"]
        log.info("after")
        assert output.messages == ["before", "after"]
    assert output.threads >= {threading.get_ident()}


def test_closing_does_not_wait_for_ever_for_a_blocked_output(
    output: _Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_FLUSH_SECONDS", 0.01)
    handler = BackgroundHandler(output)
    with _logging_to(handler) as log:
        output.open.clear()
        log.info("waits")
        handler.flush()
        handler.close()
        log.info("too late")
        output.open.set()
    assert "too late" not in output.messages


def test_a_forked_child_writes_its_own_lines() -> None:
    program = """
import logging, os, sys
from bearerguard.logs import BackgroundHandler
handler = BackgroundHandler(logging.StreamHandler())
logging.basicConfig(level=logging.INFO, handlers=[handler])
logging.info("parent, before")
child = os.fork()
if child == 0:
    handler.flush()
    logging.info("child")
    sys.exit()
os.waitpid(child, 0)
logging.info("parent, after")
"""
    # Later Pythons warn of a fork beside threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stderr.split("\n")) == ["", "child", "parent, after", "parent, before"]
