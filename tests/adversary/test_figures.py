"""Attacks in bulk, in figures: mutations, key ids, huge fields. `scripts/stress` is full size."""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import Any

import anyio
import pytest

from bearerguard import Guard, asgi, wsgi
from bearerguard.protocol.jose import base64url
from bearerguard.testing import LocalIssuer
from tests.adversary.attack import PARSERS, parsing
from tests.adversary.mutations import Token, mutations
from tests.conformance.drivers import Protected, Sent, call_asgi, call_wsgi
from tests.conformance.harness import NOON, Clock, bearer, twisted
from tests.faults.size import size

# Traced, each of the many requests takes twice as long.
pytestmark = pytest.mark.no_cover

ALGORITHMS = ("ES256", "EdDSA", "RS256", "PS256", "ML-DSA-44")
# Of a request that a server would hand over: none has a CR, LF or NUL within a field.
NO_FIELD = str.maketrans("", "", "\r\n\0")


class Quiet:
    """A standing guard, and one loop that asks both adapters about fields."""

    def __init__(self, guard: Guard) -> None:
        async def app(scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        def plain(_environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [b""]

        self._asgi = asgi.BearerMiddleware(app, guard=guard)
        self._wsgi = wsgi.BearerMiddleware(plain, guard=guard)

    async def asgi(self, field: bytes) -> int:
        found: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])

        async def receive() -> Any:
            raise AssertionError("nobody reads the body")

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/things",
            "raw_path": b"/things",
            "query_string": b"",
            "root_path": "",
            "scheme": "https",
            "headers": [(b"authorization", field)],
        }
        await self._asgi(scope, receive, send)
        return found[0]

    def wsgi(self, field: bytes | str) -> int:
        found: list[int] = []

        def start_response(status: str, _fields: Any, *_: Any) -> Any:
            found.append(int(status[:3]))

        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/things",
            "QUERY_STRING": "",
            "wsgi.url_scheme": "https",
            "HTTP_AUTHORIZATION": field if isinstance(field, str) else field.decode("latin-1"),
        }
        for _ in self._wsgi(environ, start_response):
            pass
        return found[0]


def tokens(issuer: LocalIssuer) -> list[Token]:
    made: list[Token] = []
    for number in range(4):
        text = issuer.token(scopes=["read"], claims={"jti": str(number), "note": "é" * number})
        valid = {text, twisted(text)} if issuer.key.algorithm == "ES256" else {text}
        made.append(Token(text, frozenset(valid)))
    return made


@pytest.mark.parametrize("parsers", PARSERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_JWT_15_no_mutation_is_accepted_and_none_is_an_error(algorithm: str, parsers: str) -> None:
    issuer = LocalIssuer(algorithm=algorithm, clock=Clock())
    count = size(1_000_000, 100_000) // len(ALGORITHMS) // len(PARSERS)
    answers: Counter[int] = Counter()
    controls: Counter[int] = Counter()
    with parsing(parsers), issuer.guard() as guard:
        adapters = Quiet(guard)

        async def attack() -> None:
            genuine = tokens(issuer)
            for number, (token, text) in enumerate(mutations(genuine, seed=20, count=count)):
                field = b"Bearer " + text.translate(NO_FIELD).encode("latin-1")
                if field[7:].strip(b" \t").decode("latin-1") in token.valid:
                    continue  # a server strips white space around a field (RFC 9110 §5.5)
                status = await adapters.asgi(field) if number % 2 else adapters.wsgi(field)
                answers[status] += 1
                if number % 1000 == 0:
                    good = b"Bearer " + token.text.encode()
                    controls[await adapters.asgi(good)] += 1
                    controls[adapters.wsgi(good)] += 1

        anyio.run(attack)
    print(f"{algorithm}, {parsers}: {answers.total()} mutations: {dict(answers)}; {dict(controls)}")
    assert set(answers) <= {400, 401}
    assert answers.total() > count * 0.99
    assert set(controls) == {200}


@pytest.mark.parametrize("outage", [False, True])
def test_JWKS_01_a_flood_of_random_kids_costs_three_fetches_and_one_per_cooldown(
    outage: bool,
) -> None:
    clock = Clock()
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    random, count = Random(20), size(100_000, 10_000)
    header = [issuer.token(header={"kid": random.randbytes(8).hex()}) for _ in range(8)]
    payload = header[0].split(".")[1:]
    answers: Counter[int] = Counter()
    with issuer.guard() as guard:
        adapters = Quiet(guard)
        guard.verify(issuer.token())
        issuer.outage = outage
        before = issuer.hits["/jwks"]

        async def flood() -> None:
            for number in range(count):
                clock.now = NOON + 60 * number / count  # 60 seconds in all
                kid = random.randbytes(8).hex()
                head = base64url.encode(b'{"alg":"ES256","typ":"at+jwt","kid":"%s"}' % kid.encode())
                field = b"Bearer " + b".".join((head, *(each.encode() for each in payload)))
                status = await adapters.asgi(field) if number % 2 else adapters.wsgi(field)
                answers[status] += 1

        began = time.process_time()
        anyio.run(flood)
        spent = time.process_time() - began
        fetches = issuer.hits["/jwks"] - before
        print(f"{count} random kids in 60 s, outage {outage}: {fetches} fetches, {dict(answers)},")
        print(f"    {spent / count * 1e6:.0f} microseconds of CPU each")
        # The bucket of three, and one for each of the two cool-downs in a minute.
        assert fetches <= 3 + 2
        assert set(answers) == ({401, 503} if outage else {401}) or (
            outage and set(answers) == {503}
        )
        issuer.outage = False
        assert guard.verify(issuer.token(claims={"jti": "known"})).subject == "user"
        issuer.rotate()
        clock.now += 60
        assert guard.verify(issuer.token()).subject == "user", "a real rotation gets through"


FIELDS = {
    "a": b"Bearer " + b"a",
    "dots": b"Bearer " + b".",
    "three parts": b"Bearer eyJhbGciOiJFUzI1NiJ9.e30." + b"A",
    "spaces": b"Bearer" + b" ",
    "no token68": b"Bearer \xff",
    "commas": b"Bearer a,",
    "another scheme": b"Basic " + b"a",
    "no scheme": b"a",
    "padding": b"Bearer a=",
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("megabytes", [1, size(100, 10)])
def test_JWT_18_a_field_of_many_megabytes_is_refused_at_once(name: str, megabytes: int) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    start = FIELDS[name]
    field = start + start[-1:] * (megabytes << 20)
    with issuer.guard() as guard:
        adapters = Quiet(guard)

        async def measured() -> tuple[int, float]:
            began = time.thread_time()
            status = await adapters.asgi(field)
            return status, time.thread_time() - began

        adapters.wsgi(b"Bearer a")  # what is imported and compiled once
        status, spent = anyio.run(measured)
        quickest = min([spent, *(anyio.run(measured)[1] for _ in range(2))])
        text = field.decode("latin-1")  # as a server has it
        in_wsgi = float("inf")
        for _ in range(3):
            began = time.thread_time()
            other = adapters.wsgi(text)
            in_wsgi = min(in_wsgi, time.thread_time() - began)
    print(
        f"{megabytes} MB, {name}: {status}, {quickest * 1e3:.2f} ms of CPU in ASGI,"
        f" {in_wsgi * 1e3:.2f} ms in WSGI"
    )
    assert status == other
    assert status in {400, 401, 431}
    # Printed to be read; hashing, copying or scanning the whole field would take longer than this.
    assert max(quickest, in_wsgi) < 0.05


def test_JWT_18_one_guard_answers_alike_whatever_adapter_got_the_long_token() -> None:
    issuer = LocalIssuer(algorithm="ES256", clock=Clock())
    long = bearer(issuer.token(claims={"filler": "x" * 20_000}))
    for call in (call_asgi, call_wsgi):
        response = call(Protected(issuer.guard(), {}, ()), Sent(long))
        assert response.status == 401
        assert b"longer" not in response.body, "what a limit is stays with the operator"
