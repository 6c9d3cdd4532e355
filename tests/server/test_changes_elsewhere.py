"""What another process changes of clients and keys is seen by the next request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from bearerguard.server import ClientError
from bearerguard.server.clients import registry
from bearerguard.server.store.versions import Versions
from tests.server.harness import SECRET, Harness, Make, header
from tests.server.serving import ROOT
from tests.server.statements import recorded

pytestmark = pytest.mark.both_engines

PAGE = "https://page.example.com"


def sql(harness: Harness, statement: str, *arguments: object) -> None:
    """Change the database without this package; each `?` is an argument."""
    for place in range(len(arguments)):
        statement = statement.replace("?", f":argument_{place}", 1)
    harness.store.run(
        statement, {f"argument_{place}": each for place, each in enumerate(arguments)}
    )


def asked(harness: Harness, **fields: Any) -> int:
    return harness.token(grant_type="client_credentials", **fields).status


def kept(harness: Harness) -> Any:
    return harness.server._engine.clients._cache._kept


def by_another_server(harness: Harness, what: Callable[[Any], object]) -> None:
    other = harness.another()
    what(other)
    other.close()


REMOVALS: dict[str, Callable[[Harness], None]] = {
    "another server": lambda harness: by_another_server(
        harness, lambda other: other.clients.remove(harness.app.client_id)
    ),
    "SQL": lambda harness: sql(
        harness, "DELETE FROM clients WHERE client_id = ?", harness.app.client_id
    ),
}


@pytest.mark.parametrize("by", REMOVALS)
def test_a_client_that_is_removed_elsewhere_is_refused_with_its_tokens(
    harness: Harness, by: str
) -> None:
    api = harness.add("API", redirect_uris=[], introspects=[harness.server.settings.issuer])
    token = harness.token(grant_type="client_credentials").json["access_token"]
    assert harness.introspect(token, api)["active"]
    assert asked(harness) == 200
    REMOVALS[by](harness)
    assert harness.token(grant_type="client_credentials").error == (401, "invalid_client")
    assert not harness.introspect(token, api)["active"]


ROTATIONS: dict[str, Callable[[Harness], None]] = {
    "another server": lambda harness: by_another_server(
        harness, lambda other: other.clients.rotate_secret(harness.app.client_id, overlap=0)
    ),
    "SQL": lambda harness: sql(
        harness,
        "DELETE FROM client_secrets WHERE client_id = ?",
        harness.app.client_id,
    ),
    "SQL that lets it expire": lambda harness: sql(
        harness, "UPDATE client_secrets SET expires_at = 1"
    ),
}


@pytest.mark.parametrize("by", ROTATIONS)
def test_a_secret_that_is_ended_elsewhere_is_refused(harness: Harness, by: str) -> None:
    assert asked(harness) == 200
    ROTATIONS[by](harness)
    assert asked(harness) == 401


def test_a_secret_that_is_made_elsewhere_is_accepted_and_the_old_one_for_its_overlap(
    harness: Harness,
) -> None:
    assert asked(harness) == 200
    made: list[str] = []
    by_another_server(
        harness,
        lambda other: made.append(other.clients.rotate_secret(harness.app.client_id, overlap=60)),
    )
    assert [asked(harness, client_secret=made[0]), asked(harness)] == [200, 200]
    harness.clock.now += 61
    assert [asked(harness, client_secret=made[0]), asked(harness)] == [200, 401]


def test_a_client_whose_options_change_elsewhere_has_the_new_ones(harness: Harness) -> None:
    assert [asked(harness, scope=each) for each in ("read", "write")] == [200, 200]
    query = "SELECT options FROM clients WHERE client_id = :client_id"
    ((options,),) = harness.store.run(query, {"client_id": harness.app.client_id})
    changed = json.dumps(json.loads(options) | {"scopes": ["read"]})
    statement = "UPDATE clients SET options = ? WHERE client_id = ?"
    sql(harness, statement, changed, harness.app.client_id)
    assert [asked(harness, scope=each) for each in ("read", "write")] == [200, 400]


ORIGINS: dict[str, Callable[[Harness], None]] = {
    "another server": lambda harness: by_another_server(
        harness,
        lambda other: other.clients.add(
            "Page", public=True, redirect_uris=[f"{PAGE}/cb"], scopes=["read"], origins=[PAGE]
        ),
    ),
    "SQL": lambda harness: sql(
        harness, "INSERT INTO client_origins VALUES (?, ?)", PAGE, harness.phone.client_id
    ),
}


@pytest.mark.parametrize("by", ORIGINS)
def test_an_origin_that_is_added_elsewhere_is_allowed(harness: Harness, by: str) -> None:
    def allowed() -> str | None:
        return harness.post("/oauth/token", {}, origin=PAGE).header("access-control-allow-origin")

    assert allowed() is None
    ORIGINS[by](harness)
    assert allowed() == PAGE


WITHDRAWALS: dict[str, Callable[[Harness, str], None]] = {
    "another server": lambda harness, kid: by_another_server(
        harness, lambda other: other.keys.withdraw(kid)
    ),
    "SQL": lambda harness, kid: sql(harness, "DELETE FROM signing_keys WHERE kid = ?", kid),
}


@pytest.mark.parametrize("by", WITHDRAWALS)
def test_a_key_that_is_withdrawn_elsewhere_signs_and_verifies_nothing(
    harness: Harness, by: str
) -> None:
    before = harness.server.keys.rotate(immediately=True)
    token = harness.token(grant_type="client_credentials").json["access_token"]
    assert header(token)["kid"] == before
    assert harness.is_active(token)
    WITHDRAWALS[by](harness, before)
    published = harness.send("GET", "/oauth/jwks").json["keys"]
    assert before not in [key["kid"] for key in published]
    assert not harness.is_active(token)
    later = harness.token(grant_type="client_credentials").json["access_token"]
    assert header(later)["kid"] != before
    assert harness.is_active(later)


def test_what_a_command_in_another_process_does_is_seen_by_the_next_request(
    harness: Harness,
) -> None:
    assert asked(harness) == 200
    code = (
        "import sys; from bearerguard.server.administration import Administration;"
        "administration = Administration(sys.argv[1]);"
        "administration.clients.remove(sys.argv[2]);"
        "print(administration.clients.add('New', client_id='new', scopes=['read']).client_secret)"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", code),
            *(harness.store.url, harness.app.client_id),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "BEARERGUARD_SERVER_SECRET": SECRET},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert asked(harness) == 401
    assert asked(harness, client_id="new", client_secret=done.stdout.strip()) == 200


# What is kept in memory


def test_a_client_that_is_known_is_read_once(harness: Harness) -> None:
    assert asked(harness) == 200
    with recorded() as sent:
        assert asked(harness) == 200
    assert not [statement for statement, _ in sent if "FROM clients" in statement]


def test_a_client_that_is_unknown_is_not_kept(harness: Harness) -> None:
    assert asked(harness) == 200
    before = set(kept(harness))
    for number in range(50):
        assert asked(harness, client_id=f"nobody-{number}") == 401
    assert set(kept(harness)) == before


def test_only_so_many_clients_are_kept_and_all_are_known(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_MOST_KEPT", 3)
    harness = make()
    added = [harness.add(f"App {number}") for number in range(5)]
    for _ in range(2):
        for each in added:
            assert harness.token(each, grant_type="client_credentials").status == 200
    assert len(kept(harness)) == 3


def test_a_client_is_not_kept_longer_than_a_minute(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_KEPT_SECONDS", 0.0)
    harness = make()
    assert asked(harness) == 200
    with recorded() as sent:
        assert asked(harness) == 200
    assert [statement for statement, _ in sent if "FROM clients" in statement]


# Versions, within a request


def readings(sent: list[tuple[str, Any]]) -> int:
    return len([statement for statement, _ in sent if "FROM changes" in statement])


def test_a_request_reads_the_versions_once(harness: Harness) -> None:
    token = harness.token(grant_type="client_credentials").json["access_token"]
    assert harness.is_active(token)
    with recorded() as sent:
        assert asked(harness) == 200
    assert readings(sent) == 1
    with recorded() as sent:
        assert harness.is_active(token)
    assert readings(sent) == 1, "for the client, the key, and the client of the token"
    with recorded() as sent:
        harness.server.clients.get(harness.app.client_id)
        harness.server.clients.get(harness.app.client_id)
    assert readings(sent) == 2, "outside of a request there is nothing that would end"


def test_a_thread_reads_the_versions_for_its_own_request(harness: Harness) -> None:
    versions = Versions(harness.server.database)
    seen: list[int] = []
    with versions.once():
        before = versions.current()
        harness.add("Another")
        assert versions.current() == before
        thread = threading.Thread(target=lambda: seen.append(versions.current().clients))
        thread.start()
        thread.join()
        assert seen[0] != before.clients
        versions.forget()
        assert versions.current().clients == seen[0]
    assert versions.current().clients == seen[0]


def test_a_request_sees_its_own_changes(harness: Harness) -> None:
    clients, app = harness.server.clients, harness.app
    with harness.server._engine.versions.once():
        assert clients.has_secret(app.client_id, str(app.client_secret))
        new = clients.rotate_secret(app.client_id, overlap=0)
        assert clients.has_secret(app.client_id, new)
        assert not clients.has_secret(app.client_id, str(app.client_secret))
        kid = harness.server.keys.rotate(immediately=True)
        assert kid in [key.kid for key in harness.server.keys.all()]
        clients.remove(app.client_id)
        with pytest.raises(ClientError):
            clients.get(app.client_id)


def test_what_changed_while_a_request_read_it_is_not_kept_for_the_version_before(
    harness: Harness,
) -> None:
    """A request that has read the versions is overtaken by a change, and then by another."""
    clients, client_id = harness.server.clients, harness.app.client_id
    rename = "UPDATE clients SET name = ? WHERE client_id = ?"
    with harness.server._engine.versions.once():
        clients.get(harness.phone.client_id)
        sql(harness, rename, "Second", client_id)
        assert clients.get(client_id).name == "Second"
        assert client_id not in kept(harness)
    sql(harness, rename, "Third", client_id)
    assert clients.get(client_id).name == "Third"


def test_as_many_changes_after_a_restore_do_not_lead_to_the_same_version(harness: Harness) -> None:
    restored = harness.store.run("SELECT name, version FROM changes")
    found = set()
    for number in range(3):
        for name, version in restored:
            values = {"name": name, "version": version}
            harness.store.run("UPDATE changes SET version = :version WHERE name = :name", values)
        harness.store.run(f"UPDATE clients SET name = 'new {number}'")
        harness.store.run("UPDATE signing_keys SET algorithm = algorithm")
        found |= set(harness.store.run("SELECT name, version FROM changes"))
    assert len(found) == 6


def test_a_change_by_a_connection_of_another_search_path_counts(harness: Harness) -> None:
    is_sqlite = harness.store.engine_name == "sqlite"
    ((before,),) = harness.store.run("SELECT version FROM changes WHERE name = 'clients'")
    with harness.store.connection() as connection:
        if not is_sqlite:
            connection.exec_driver_sql("SET LOCAL search_path = ''")
        schema = "main" if is_sqlite else "public"
        connection.exec_driver_sql(f"UPDATE {schema}.clients SET name = 'new'")
    ((after,),) = harness.store.run("SELECT version FROM changes WHERE name = 'clients'")
    assert after != before


@pytest.mark.parametrize("skew", [-400, 400])
def test_codes_that_are_ended_on_a_machine_with_another_clock_are_not_redeemed(
    harness: Harness, skew: float
) -> None:
    code = harness.code()
    harness.clock.now += skew
    by_another_server(harness, lambda other: other.revoke_user(user_id="ada"))
    harness.clock.now -= skew
    assert harness.redeem(code).error == (400, "invalid_grant")
