"""A hundred refreshes of one token at once: one successor, or one success and a theft."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.clients import Got, Herd
from tests.faults.size import size
from tests.server.leaks import found
from tests.server.serving import GUNICORN, Served, served
from tests.server.stores import Store

AT_ONCE, ROUNDS = 100, size(20, 2)
FOUR = (*GUNICORN, "--workers", "4")


def _refresh_all_at_once(running: Served, herd: Herd) -> tuple[list[Got], str]:
    client = running.add()
    token = running.redeem(client, running.code(client)).json()["refresh_token"]
    fields = {"grant_type": "refresh_token", "refresh_token": token}
    return herd.all_at_once(client, fields), token


@pytest.mark.parametrize("grace", ["10", "0"])
def test_RT_02_a_hundred_refreshes_at_once_never_fork_the_family(
    tmp_path: Path, store: Store, grace: str
) -> None:
    secrets: list[str] = []
    outcomes: Counter[tuple[int, str | None]] = Counter()
    with served(tmp_path, FOUR, store, GRACE=grace) as running, Herd(running.url, AT_ONCE) as herd:
        for _ in range(ROUNDS):
            responses, token = _refresh_all_at_once(running, herd)
            outcomes.update((each.status, each.error) for each in responses)
            good = [each.content for each in responses if each.status == 200]
            secrets += [token, *(each["access_token"] for each in good)]
            successors = {each["refresh_token"] for each in good}
            assert len(successors) == 1
            assert len(good) == (AT_ONCE if grace == "10" else 1)
            secrets += successors
        leaked = found(store, running.program.output, secrets)
    revoked, grants = store.run("SELECT count(revoked_at), count(*) FROM grants")[0]
    print(
        f"\n{ROUNDS} x {AT_ONCE} refreshes at once, {store.engine_name}, grace {grace} s:", end=" "
    )
    print(f"{dict(outcomes)};")
    print(f"  {revoked} of {grants} families revoked; secrets found in: {leaked}")
    losers = 0 if grace == "10" else (AT_ONCE - 1) * ROUNDS
    assert outcomes[400, "invalid_grant"] == losers
    assert sum(outcomes.values()) == AT_ONCE * ROUNDS
    assert (revoked, grants) == (0 if grace == "10" else ROUNDS, ROUNDS)
    assert leaked == []
