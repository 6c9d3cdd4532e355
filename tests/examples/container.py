"""A Dockerfile without an engine: its instructions, carried out in a folder.

Absolute paths of the image are paths below the folder. The base image is the Python of the tests.
Where the tests run as root, what is built belongs to another user than the one who runs it, so that
a program which writes outside `/tmp` fails as it does on a read-only file system.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IS_ROOT = os.geteuid() == 0
_BUILDER = 65534
_PATHS = re.compile(r"(?<![\w/.:])/(?:venv|src|usr/local/bin|run/secrets)\b")


def _builder() -> dict[str, Any]:
    """Return how `subprocess` becomes the user who builds."""
    return {"user": _BUILDER, "group": _BUILDER, "extra_groups": []} if IS_ROOT else {}


def python() -> str:
    """Return a Python that the builder may run, for the one of the base image; none is ""."""
    test = "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"
    own: str = getattr(sys, "_base_executable", sys.executable)
    for found in (own, "/usr/local/bin/python3", "/usr/bin/python3"):
        try:
            done = subprocess.run([found, "-c", test], **_builder(), cwd="/", check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return found
    return ""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name, its options, and the rest."""

    name: str
    options: Mapping[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """The JSON list that the text is, or ends with."""
        words: list[str] = json.loads(self.text[self.text.index("[") :])
        return words


def instructions(text: str) -> list[Instruction]:
    """Parse a Dockerfile."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            options = dict(re.findall(r"(?<!\S)--([\w-]+)=(\S+)", rest.partition("[")[0]))
            rest = re.sub(r"^(--[\w-]+=\S+\s+)+", "", rest)
            found.append(Instruction(name, options, rest))
    return found


@dataclass
class Image:
    """What a Dockerfile makes of the folder `context`, below the folder `root`."""

    root: Path
    context: Path
    environ: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    user: str = "0:0"
    ports: set[str] = field(default_factory=set)
    _folder: str = "/"

    def build(self, steps: Sequence[Instruction]) -> None:
        """Carry out the instructions."""
        for name in ("usr/local/bin", "run/secrets", "tmp"):
            (self.root / name).mkdir(parents=True)
        self.own(self.root)
        for step in steps:
            getattr(self, f"_{step.name.lower()}")(step)

    def own(self, path: Path) -> None:
        """Let the builder, who does not run the program, own a folder and all in it."""
        if IS_ROOT:
            subprocess.run(["chown", "--recursive", f"{_BUILDER}:{_BUILDER}", path], check=True)

    def inside(self, text: str) -> str:
        """Return text whose paths of the image are paths below the folder."""
        return _PATHS.sub(lambda found: f"{self.root}{found[0]}", text)

    def identity(self) -> dict[str, Any]:
        """Return how `subprocess` becomes the user of the image."""
        if not IS_ROOT:
            return {}
        user, _, group = self.user.partition(":")
        return {"user": int(user), "group": int(group), "extra_groups": []}

    def variables(self, *given: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a program."""
        found = {"TMPDIR": str(self.root / "tmp"), "HOME": "/", "LANG": "C.UTF-8"} | self.environ
        for each in given:
            found |= {name: self.inside(value) for name, value in each.items()}
        return found

    def _from(self, step: Instruction) -> None:
        assert re.match(r"python:3\.\d+-slim( AS build)?$", step.text)
        self._folder = "/"

    def _workdir(self, step: Instruction) -> None:
        self._folder = step.text
        (self.root / step.text.lstrip("/")).mkdir()
        self.own(self.root / step.text.lstrip("/"))

    def _copy(self, step: Instruction) -> None:
        *sources, target = step.text.split()
        if "from" in step.options:
            assert sources == [target], "what a stage has made stays where it is"
            assert (self.root / target.lstrip("/")).is_dir()
            return
        into = self.root / str(Path(self._folder) / target).lstrip("/")
        for source in sources:
            path = self.context / source
            if path.is_dir():
                shutil.copytree(path, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, into)
                if "chmod" in step.options:
                    into.chmod(int(step.options["chmod"], 8))
        self.own(into)

    def _run(self, step: Instruction) -> None:
        command = re.sub(r"^python\b", python(), self.inside(step.text))
        home = {"HOME": str(self.root / "tmp"), "TMPDIR": str(self.root / "tmp")}
        done = subprocess.run(
            shlex.split(command),
            **_builder(),
            cwd=self.root / self._folder.lstrip("/"),
            env={"PATH": "/usr/bin:/bin", **home},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _env(self, step: Instruction) -> None:
        name, _, value = step.text.partition("=")
        self.environ[name] = self.inside(value)

    def _user(self, step: Instruction) -> None:
        self.user = step.text
        if IS_ROOT:
            (self.root / "tmp").chmod(0o1777)

    def _expose(self, step: Instruction) -> None:
        self.ports.add(step.text)

    def _healthcheck(self, step: Instruction) -> None:
        assert step.text.startswith("CMD [")
        self.health = step.words

    def _entrypoint(self, step: Instruction) -> None:
        self.entrypoint = step.words

    def _cmd(self, step: Instruction) -> None:
        self.command = step.words
