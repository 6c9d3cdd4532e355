"""The container recipe, without an engine: the image is built in a folder, and what it runs runs.

PostgreSQL and Redis are real. What compose.yaml names is compared with what there is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
import yaml  # type: ignore[import-untyped]

from bearerguard.cli import app
from bearerguard.runtime.extras import MODULES_OF_EXTRA
from bearerguard.server.settings import VARIABLES
from tests.examples.container import IS_ROOT, Image, instructions, python
from tests.examples.servers import EXAMPLES
from tests.postgresql_server import PostgreSQLServer
from tests.processes import free_port
from tests.redis_server import PROGRAM as REDIS
from tests.redis_server import RedisServer

FOLDER = EXAMPLES / "container"
ROOT = EXAMPLES.parent
STEPS = instructions((FOLDER / "Dockerfile").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
SERVER: dict[str, Any] = SERVICES["server"]


@pytest.fixture(scope="module")
def image() -> Generator[Image]:
    if not python():
        pytest.skip("no Python from 3.11 on that another user may run")
    # Not pytest's folder, which other users may not enter.
    root = Path(tempfile.mkdtemp(prefix="bearerguard-image-"))
    root.chmod(0o755)
    made = Image(root, ROOT)
    try:
        made.build(STEPS)
        yield made
    finally:
        shutil.rmtree(root)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """The folder that `make-secrets` makes."""
    shutil.copy(FOLDER / "make-secrets", tmp_path)
    subprocess.run([tmp_path / "make-secrets"], check=True)
    return tmp_path / "secrets"


def files(folder: Path) -> set[str]:
    return {str(each) for each in folder.rglob("*") if folder / "tmp" not in each.parents}


def test_the_image_serves_tokens_as_its_user_with_the_variables_of_compose(
    image: Image, secrets: Path, postgresql_server: PostgreSQLServer, redis: RedisServer
) -> None:
    host = f"127.0.0.1:{redis.port}"
    port = str(free_port())
    store = postgresql_server.url(postgresql_server.create_database())
    (secrets / "store_url").write_text(store)
    for name in SERVER["secrets"]:
        shutil.copy(secrets / name, image.root / "run/secrets" / name)
    url = f"http://127.0.0.1:{port}"
    environ = image.variables(
        {name: str(value) for name, value in SERVER["environment"].items()},
        {
            "BEARERGUARD_SERVER_ISSUER": url,
            "BEARERGUARD_SERVER_THROTTLE_STORE": f"redis://{host}/0",
            "BEARERGUARD_SERVER_REVOCATIONS_STORE": f"redis://{host}/1",
        },
    )
    before = files(image.root)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        entry = [image.inside(f"/usr/local/bin/{image.entrypoint[0]}"), *image.entrypoint[1:]]
        return subprocess.run(
            [*entry, *command],
            **image.identity(),
            cwd=image.root,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )

    added = run("bearerguard", "client", "add", "Robot", "--scope", "read", "--json")
    assert added.returncode == 0, added.stderr
    client = json.loads(added.stdout)
    entry = image.inside(f"/usr/local/bin/{image.entrypoint[0]}")
    command = [port if each == "8000" else each for each in image.command]
    health = [each.replace(":8000/", f":{port}/") for each in image.health]
    assert command != image.command
    assert health != image.health
    with (image.root / "tmp" / "log").open("wb+") as log:
        process = subprocess.Popen(
            [entry, *command], **image.identity(), cwd=image.root, env=environ, stderr=log
        )
        try:
            deadline = time.monotonic() + 30
            while (probe := run(*health)).returncode:
                assert process.poll() is None, log.seek(0) or log.read().decode()
                assert time.monotonic() < deadline, probe.stderr
            assert httpx2.get(f"{url}/health").json()["ready"] is True
            response = httpx2.post(
                f"{url}/oauth/token",
                data={"grant_type": "client_credentials", "scope": "read"},
                auth=(client["client_id"], client["client_secret"]),
            )
            assert response.status_code == 200, response.text
            figures = httpx2.get(f"{url}/metrics").text
            assert "bearerguard_server_tokens_issued_total" in figures
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == -signal.SIGTERM
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        written = log.read().decode()
    # As JSON, without a secret.
    codes = [json.loads(line).get("code") for line in written.splitlines()]
    assert "token_issued" in codes
    for secret in SERVER["secrets"]:
        assert (secrets / secret).read_text() not in written
    assert run(*health).returncode, "a server that has ended is not healthy"
    if IS_ROOT:  # who else runs the tests owns all files
        assert files(image.root) == before, "it writes nothing outside /tmp"


def test_a_command_without_files_runs_as_well(image: Image) -> None:
    entry = image.inside(f"/usr/local/bin/{image.entrypoint[0]}")
    done = subprocess.run(
        [entry, *image.command, "--help"],
        **image.identity(),
        cwd=image.root,
        env=image.variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for option in (each for each in image.command if each.startswith("--")):
        assert option in done.stdout


def test_a_secret_whose_file_is_missing_stops_the_start(image: Image) -> None:
    entry = image.inside(f"/usr/local/bin/{image.entrypoint[0]}")
    environ = image.variables({"BEARERGUARD_SERVER_SECRET_FILE": "/run/secrets/nowhere"})
    done = subprocess.run(
        [entry, "sh", "-c", "echo started"],
        **image.identity(),
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "nowhere" in done.stderr
    assert "started" not in done.stdout


def test_the_dockerfile_installs_extras_that_exist_and_runs_as_a_user_without_rights() -> None:
    (install,) = [step.text for step in STEPS if step.name == "RUN" and "pip install" in step.text]
    (extras,) = re.findall(r"\.\[([\w,-]+)\]", install)
    assert set(extras.split(",")) <= set(MODULES_OF_EXTRA) | {"speed"}
    assert {"server", "cli", "postgresql", "redis", "prometheus"} <= set(extras.split(","))
    users = [step.text for step in STEPS if step.name == "USER"]
    assert users == ["10001:10001"]
    copied = [step for step in STEPS if step.name == "COPY" and "from" not in step.options]
    allowed = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    for step in copied:
        for source in step.text.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in allowed, source


def test_no_image_names_a_registry() -> None:
    images = [step.text.split()[0] for step in STEPS if step.name == "FROM"]
    images += [each["image"] for each in SERVICES.values() if "image" in each]
    assert len(images) == 5
    for name in images:
        assert re.fullmatch(r"([a-z]+/)?[a-z]+:[\w.-]+", name), name


def command_of(group: Any, name: str) -> Any:
    return group.get_command(None, name)


def options() -> dict[str, str]:
    """The options of `serve` by their variables."""
    command = command_of(typer.main.get_command(app), "serve")
    return {each.envvar: each.opts[0] for each in command.params if isinstance(each.envvar, str)}


def test_each_variable_of_the_server_exists() -> None:
    files_of = (FOLDER / "with-secrets").read_text()
    for name, value in SERVER["environment"].items():
        plain = name.removesuffix("_FILE")
        assert plain in VARIABLES, name
        assert plain in options() or plain in {
            "BEARERGUARD_SERVER_SECRET",
            "BEARERGUARD_SERVER_REVOCATIONS_SECRET",
        }, name
        if name != plain:
            assert re.search(rf"\b{plain}\b", files_of), name
            assert Path(value).parent == Path("/run/secrets")
            assert Path(value).name in SERVER["secrets"], name
    assert set(re.findall(r"BEARERGUARD_\w+", files_of)) <= VARIABLES


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_is_defined(name: str) -> None:
    service = SERVICES[name]
    for kind in ("networks", "secrets"):
        assert set(service.get(kind, ())) <= set(COMPOSE[kind]), kind
    for volume in service.get("volumes", ()):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (FOLDER / source).is_file(), volume
    for other, wanted in service.get("depends_on", {}).items():
        assert wanted == {"condition": "service_healthy"}
        has_check = "healthcheck" in SERVICES[other] or "build" in SERVICES[other]
        assert has_check, "nothing says when it is healthy"
        assert set(SERVICES[other]["networks"]) & set(service["networks"])
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_secrets_are_those_that_the_script_makes(secrets: Path) -> None:
    made = {each.name: each.read_text() for each in secrets.iterdir()}
    assert {f"./secrets/{name}" for name in made} == {
        each["file"] for each in COMPOSE["secrets"].values()
    }
    assert made["store_url"] == (
        f"postgresql://bearerguard:{made['postgres_password']}@postgres/bearerguard"
    )
    user = SERVICES["postgres"]["environment"]
    assert user["POSTGRES_USER"] == user["POSTGRES_DB"] == "bearerguard"
    assert len({value for name, value in made.items() if name != "store_url"}) == 3
    assert all(len(value) >= 64 for value in made.values())
    assert secrets.stat().st_mode & 0o777 == 0o700
    again = subprocess.run([secrets.parent / "make-secrets"], capture_output=True, check=False)
    assert again.returncode, "secrets in use are not overwritten"
    assert {each.name: each.read_text() for each in secrets.iterdir()} == made
    ignored = ["git", "check-ignore", "examples/container/secrets/server_secret"]
    assert subprocess.run(ignored, cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_the_proxy_reaches_the_port_of_the_image_and_hides_what_is_not_public() -> None:
    text = (FOLDER / "Caddyfile").read_text()
    (port,) = [step.text for step in STEPS if step.name == "EXPOSE"]
    assert re.search(rf"name server\s+port {port}\b", text)
    (hidden,) = re.findall(r"@private path (.*)", text)
    environ = SERVER["environment"]
    assert environ["BEARERGUARD_SERVER_METRICS_PATH"] in hidden.split()
    assert {"/health", "/health/*"} <= set(hidden.split())
    (network,) = COMPOSE["networks"]["front"]["ipam"]["config"]
    assert network["subnet"] == environ["BEARERGUARD_SERVER_TRUSTED_PROXIES"]
    assert "back" not in SERVICES["proxy"]["networks"]
    assert [each for each in SERVICES if "ports" in SERVICES[each]] == ["proxy"]
    used = set(re.findall(r"\{\$(\w+)\}", text))
    assert used == set(SERVICES["proxy"]["environment"])


def test_redis_takes_the_options_of_compose(tmp_path: Path) -> None:
    assert REDIS is not None
    name, *given = SERVICES["valkey"]["command"]
    assert name == "valkey-server"
    port = free_port()
    command = [REDIS, *given, "--port", str(port), "--dir", str(tmp_path), "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            assert any("Ready to accept connections" in line for line in lines)
        finally:
            process.terminate()


def test_the_readme_names_files_and_services_that_exist() -> None:
    text = (FOLDER / "README.md").read_text()
    assert os.access(FOLDER / "make-secrets", os.X_OK)
    assert os.access(FOLDER / "with-secrets", os.X_OK)
    for service in re.findall(r"docker compose run --rm (\w+) bearerguard", text):
        assert service == "server"
    for command in re.findall(r"--rm server bearerguard (\w+) (\w+)", text):
        group = command_of(typer.main.get_command(app), command[0])
        assert command_of(group, command[1]), command
