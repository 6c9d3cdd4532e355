"""The quickstart's apps, served without an issuer as the page says, in an empty folder."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.processes import free_port, program, shell_output


@pytest.mark.parametrize("framework", ["Starlette", "Flask"])
def test_the_quickstart_is_served_as_it_is_written(framework: str, tmp_path: Path) -> None:
    port = str(free_port())
    text = (ROOT / "docs" / "quickstart.md").read_text().replace("8000", port)
    app, dev = (
        re.split(rf"^## {heading}$", text, flags=re.MULTILINE)[1].split("```python\n")[1]
        for heading in (framework, "Try it without an issuer")
    )
    dev = dev.partition("```")[0]
    if framework == "Flask":
        served = re.search(r"the last line is `(.*?)`", text)
        assert served is not None
        dev = dev.replace(f"uvicorn.run(app, port={port})", served[1])
        dev = dev.replace("import uvicorn\n", "")
        assert "uvicorn" not in dev
    (tmp_path / "app.py").write_text(app.partition("```")[0])
    (tmp_path / "dev.py").write_text(dev)
    good, bare = re.findall(r"^\$ (curl .*)\n", text, re.MULTILINE)
    with program([sys.executable, "dev.py"], cwd=tmp_path) as running:
        running.wait_for_port(int(port))
        assert json.loads(shell_output(good, tmp_path)) == {"recordings": [], "for": "user"}
        refused = shell_output(bare, tmp_path).lower()
        for line in text.split(f"$ {bare}\n")[1].partition("```")[0].splitlines():
            assert line.lower() in refused
