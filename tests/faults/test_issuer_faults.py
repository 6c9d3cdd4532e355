"""The failure matrix of JWTs, over real sockets: an issuer that fails in each way, both adapters.

Known keys pass with the same latency, unknown ones get 503 with Retry-After, within the timeout and
then at once; when the keys are too old, everything gets 503; when the issuer is back, all passes.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from bearerguard import HttpTransport, Issuer, KeyPolicy
from bearerguard.testing import SigningKey
from bearerguard.transports.dialing import dial_within_deadlines
from bearerguard.transports.resolver import Addresses, Resolver
from tests.faults.clocked_api import KINDS, NO_TLS, Api
from tests.faults.issuer_place import ANSWERS, Place
from tests.faults.size import FULL
from tests.raw_servers import make_certificate

TIMEOUT = 0.5
# What two busy cores may add to a request.
SLACK = 1.0
POLICY = KeyPolicy(refresh=300, max_age=3600, cooldown=30)


def matrix(api: Api, place: Place, fault: AbstractContextManager[None]) -> None:
    """Go through the rows of the matrix (DESIGN §5), before, during and after the fault."""
    issuer = place.issuer
    warm = issuer.token(expires_in=10_000)
    assert api.status(warm)[0] == 200
    unknown = SigningKey.generate("ES256", "a key that nobody knows")
    with fault:
        for token in (warm, issuer.token(expires_in=10_000)):
            status, taken = api.status(token)
            assert (status, taken < SLACK) == (200, True)
        status, taken = api.status(issuer.token(key=unknown))
        assert (status, taken < TIMEOUT * 2 + SLACK) == (503, True)
        asked = place.asked
        for _ in range(5):  # the cool-down lasts
            status, taken = api.status(issuer.token(key=unknown))
            assert (status, taken < SLACK) == (503, True)
        assert place.asked == asked
        # Long overdue: the present keys stay in use, and who waits for new ones, waits once.
        api.clock.ahead += POLICY.refresh * 1.5
        statuses = [api.status(issuer.token(expires_in=10_000)) for _ in range(3)]
        assert {each for each, _ in statuses} == {200}
        assert max(taken for _, taken in statuses) < TIMEOUT * 2 + SLACK
        assert api.status(warm)[0] == 200
        assert api.guard.health()["issuers"][place.issuer.url]["status"] == "stale"
        # Too old to be trusted.
        api.clock.ahead += POLICY.max_age
        for token in (warm, issuer.token(expires_in=10_000)):
            assert api.status(token)[0] == 503
    # The issuer is back: after a cool-down, everything passes, a new key's tokens too.
    passes_again(api, warm)
    assert api.status(issuer.token(expires_in=10_000))[0] == 200
    issuer.rotate()
    passes_again(api, issuer.token(expires_in=20_000))


def passes_again(api: Api, token: str) -> None:
    """Call once after each cool-down, a few times: on a busy machine a fetch may be late."""
    statuses = []
    while 200 not in statuses:
        api.clock.ahead += POLICY.cooldown
        statuses.append(api.status(token)[0])
        assert len(statuses) <= 3, statuses


def _issuer(place: Place, **options: Any) -> Issuer:
    return Issuer(place.url, audience=place.issuer.audience, key_policy=POLICY, **options)


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as made:
        yield made


FAULTS: dict[str, Callable[[Place], AbstractContextManager[None]]] = {
    "black hole": Place.black_holed,
    "refused": Place.refusing,
    **{
        name: lambda place, answer=answer: place.answering(answer)  # type: ignore[misc]
        for name, answer in ANSWERS.items()
    },
}


# Half of the pairs by themselves, so that each fault and each adapter has its turn.
PAIRS = [
    pytest.param(kind, fault, id=f"{kind}-{fault}")
    for number, fault in enumerate(FAULTS)
    for kind in (KINDS if FULL else (KINDS[number % 2],))
]


@pytest.mark.parametrize(("kind", "fault"), PAIRS)
def test_known_keys_pass_and_unknown_ones_get_503_while_the_issuer_fails(
    kind: str, place: Place, fault: str
) -> None:
    with Api(kind, _issuer(place), HttpTransport(timeout=TIMEOUT, ssl_context=NO_TLS)) as api:
        matrix(api, place, FAULTS[fault](place))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, here = tmp_path_factory.mktemp("tls"), x509.IPAddress(ip_address("127.0.0.1"))
    return {
        "trusted": make_certificate(folder / "trusted.pem", here),
        "of another authority": make_certificate(folder / "other.pem", here),
        "of another name": make_certificate(folder / "name.pem", x509.DNSName("id.example")),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shown", ["of another authority", "of another name", None])
def test_known_keys_pass_and_unknown_ones_get_503_while_tls_fails(
    kind: str, certificates: dict[str, Path], shown: str | None
) -> None:
    trusted = ssl.create_default_context(cafile=str(certificates["trusted"]))
    if shown == "of another name":  # its authority is trusted: the name alone is wrong
        trusted.load_verify_locations(certificates["of another name"])
    with (
        Place(certificates["trusted"]) as place,
        Api(kind, _issuer(place), HttpTransport(timeout=TIMEOUT, ssl_context=trusted)) as api,
    ):
        fault = None if shown is None else certificates[shown]
        matrix(api, place, place.with_certificate(fault))


class Names(Resolver):
    """A resolver that knows one name, until it fails."""

    def __init__(self) -> None:
        super().__init__()
        self.error: OSError | None = None
        self.hangs = 0.0

    def resolve(self, host: str, port: int, seconds: float) -> Addresses:
        if self.hangs:
            time.sleep(min(self.hangs, seconds))
            raise TimeoutError
        if self.error is not None:
            raise self.error
        return super().resolve("127.0.0.1", port, seconds)

    async def aresolve(self, host: str, port: int) -> Addresses:
        import anyio

        if self.hangs:
            await anyio.sleep(self.hangs)
        if self.error is not None:
            raise self.error
        return await super().aresolve("127.0.0.1", port)

    @contextmanager
    def failing(self, error: OSError | None = None, hangs: float = 0.0) -> Generator[None]:
        self.error, self.hangs = error, hangs
        try:
            yield
        finally:
            self.error, self.hangs = None, 0.0


class Resolving(HttpTransport):
    """A transport with a resolver of its own."""

    def __init__(self, names: Names) -> None:
        super().__init__(timeout=TIMEOUT, ssl_context=NO_TLS)
        self._names = names

    def _dial(self, client: Any) -> None:
        dial_within_deadlines(client, resolver=self._names)


DNS_FAULTS: dict[str, dict[str, Any]] = {
    "no such name": {"error": socket.gaierror(socket.EAI_NONAME, "Name not known")},
    "for now": {"error": socket.gaierror(socket.EAI_AGAIN, "Temporary failure")},
    "hangs": {"hangs": 5.0},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", DNS_FAULTS)
def test_known_keys_pass_and_unknown_ones_get_503_while_the_resolver_fails(
    kind: str, place: Place, fault: str
) -> None:
    names = Names()
    place.url = place.issuer.url = f"http://id.test:{place.port}"
    issuer = _issuer(place, insecure_allow_http=True)
    with Api(kind, issuer, Resolving(names)) as api:
        matrix(api, place, names.failing(**DNS_FAULTS[fault]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_would_notice_a_fault_that_is_none(kind: str, place: Place) -> None:
    with (
        Api(kind, _issuer(place), HttpTransport(timeout=TIMEOUT, ssl_context=NO_TLS)) as api,
        pytest.raises(AssertionError),
    ):
        matrix(api, place, nullcontext())
