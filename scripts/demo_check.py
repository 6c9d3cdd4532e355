"""The demo's check: sends the lines, goes through the browser flow by HTTP, compares."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from html import unescape
from string import Template
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
from demo_steps import PASSWORD, USER, Step
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# Enough of a token to recognise it, and too little to use it.
_SHOWN = 8


@dataclass(frozen=True)
class Result:
    """The response to a step, as far as the table shows it."""

    status: str
    summary: str
    body: str = ""


def check(plan: list[Step]) -> bool:
    """Do every step and print a table; return whether each had the expected response."""
    known: dict[str, str] = {}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("", "step", "sent", "response"):
        table.add_column(column, overflow="fold")
    good = True
    for number, step in enumerate(plan, 1):
        result = visited(step, known) if step.is_visit else sent(step, known)
        right = result.status == step.expect
        good &= right
        mark = "[green]ok[/]" if right else f"[bold red]WRONG[/], not {step.expect}"
        response = f"{result.status}  {result.summary}".rstrip()
        table.add_row(mark, f"{number}. {step.title}", escape(shown(step)), escape(response))
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table)
    return good


def sent(step: Step, known: dict[str, str]) -> Result:
    """Send a line with curl, as it was printed; note the values that later lines need."""
    words = [Template(word).safe_substitute(known) for word in step.command()]
    words[1] = "-si"
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"demo: curl failed with exit code {done.returncode}")
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    status, *lines = head.splitlines()
    if step.keeps:
        content = json.loads(body)
        known |= {name: content.get(member, "") for name, member in step.keeps.items()}
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Result(status.split()[1], summary(headers, body), body)


def visited(step: Step, known: dict[str, str]) -> Result:
    """Sign in and allow, as a browser without scripts does; note the code."""
    with httpx2.Client(follow_redirects=True) as browser:
        login = browser.get(step.url)
        consent = browser.post(
            *form(login), data={**hidden(login), "username": USER, "password": PASSWORD}
        )
        if consent.status_code != httpx2.codes.OK:
            return Result(str(consent.status_code), "at the login")
        decided = browser.post(
            *form(consent),
            data={**hidden(consent), "decision": "allow"},
            follow_redirects=False,
        )
    returned = parse_qs(urlsplit(decided.headers.get("location", "")).query)
    if "code" not in returned:
        return Result(str(decided.status_code), "at the consent page")
    known["CODE"] = returned["code"][0]
    return Result("a code", f"and state={returned['state'][0]}, by a redirect to the app")


def form(page: httpx2.Response) -> tuple[str]:
    action = re.search(r'<form method="post" action="([^"]*)"', page.text)
    if action is None:
        sys.exit(f"demo: there is no form on the page, whose status is {page.status_code}")
    return (urljoin(str(page.url), unescape(action[1])),)


def hidden(page: httpx2.Response) -> dict[str, str]:
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page.text)
    return {name: unescape(value) for name, value in fields}


def summary(headers: dict[str, str], body: str) -> str:
    """Return the essential part of a response, without a token in full."""
    challenge = headers.get("www-authenticate")
    if challenge:
        return challenge.split(", error_description")[0]
    try:
        content = json.loads(body)
    except ValueError:
        return ""
    members = {name: value for name, value in content.items() if name != "error_description"}
    return ", ".join(f"{name}: {brief(name, value)}" for name, value in members.items())


def brief(name: str, value: object) -> str:
    if isinstance(value, list):
        return f"{len(value)} of them"
    return f"{str(value)[:_SHOWN]}…" if name.endswith("_token") else str(value)


def shown(step: Step) -> str:
    """Return what a step sends, without credentials."""
    if step.is_visit:
        return "GET /oauth/authorize, then the forms of the login and the consent page"
    fields = [word for flag, word in pairs(step) if flag == "--data-urlencode"]
    headers = [word for flag, word in pairs(step) if flag == "-H"]
    method = "POST" if fields or "POST" in step.arguments else "GET"
    public = [word for word in fields if not word.startswith(("client_", "redirect_", "code_v"))]
    return " ".join([method, urlsplit(step.url).path, *headers, *public])


def pairs(step: Step) -> list[tuple[str, str]]:
    return list(zip(step.arguments, step.arguments[1:], strict=False))
