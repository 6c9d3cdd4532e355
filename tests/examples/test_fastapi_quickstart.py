"""The quickstart of the page on FastAPI, followed in an empty folder."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.docs.pages import ROOT
from tests.processes import free_port, program, shell_output


def test_the_quickstart_works_as_it_is_written(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "fastapi.md").read_text()
    port = str(free_port())
    text = page.partition("## Requirements of a route")[0].replace("8000", port)
    files = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == ["app.py", "dev.py"]
    for name, code in files:
        (tmp_path / name).write_text(code)
    good, bare = re.findall(r"^\$ (curl .*)\n", text, re.MULTILINE)
    with program([sys.executable, "dev.py"], cwd=tmp_path) as running:
        running.wait_for_port(int(port))
        assert json.loads(shell_output(good, tmp_path)) == {"recordings": [], "for": "user"}
        assert f"{shell_output(good, tmp_path)}\n" in text
        refused = shell_output(bare, tmp_path)
        for line in text.split(f"$ {bare}\n")[1].partition("```")[0].splitlines():
            assert line in refused
