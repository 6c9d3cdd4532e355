"""One code, fifty redemptions at once, four processes: exactly one succeeds."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from tests.faults.clients import Herd
from tests.faults.size import size
from tests.server.harness import CALLBACK, VERIFIER
from tests.server.leaks import found
from tests.server.serving import GUNICORN, served
from tests.server.stores import Store

CODES, AT_ONCE = size(1000, 100), 50
FOUR = (*GUNICORN, "--workers", "4", "--keep-alive", "60")


def test_TK_06_each_code_is_redeemed_exactly_once_over_four_processes(
    tmp_path: Path, store: Store
) -> None:
    outcomes: Counter[tuple[int, str | None]] = Counter()
    winners: Counter[int] = Counter()
    secrets: list[str] = []
    began = time.monotonic()
    with served(tmp_path, FOUR, store) as running, Herd(running.url, AT_ONCE) as herd:
        client = running.add()
        for _ in range(CODES):
            code = running.code(client)
            fields = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": CALLBACK,
                "code_verifier": VERIFIER,
            }
            responses = herd.all_at_once(client, fields)
            outcomes.update((each.status, each.error) for each in responses)
            good = [each for each in responses if each.status == 200]
            winners[len(good)] += 1
            secrets += [code, *(each.content["access_token"] for each in good)]
            secrets += [each.content["refresh_token"] for each in good]
        leaked = found(store, running.program.output, [*secrets, client.client_secret or ""])
    seconds = time.monotonic() - began
    print(f"\n{CODES} codes x {AT_ONCE} redemptions over 4 processes on", end=" ")
    print(f"{store.engine_name} in {seconds:.0f} s:")
    print(f"  {dict(outcomes)}; secrets looked for: {len(secrets)}, found in: {leaked}")
    assert winners == {1: CODES}
    assert outcomes == {
        (200, None): CODES,
        (400, "invalid_grant"): CODES * (AT_ONCE - 1),
    }
    assert leaked == []
