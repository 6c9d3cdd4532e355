"""The doctor's report: as text for a terminal of 80 columns, and as JSON."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bearerguard.cli import output
from bearerguard.cli.guard.doctor.finding import Finding, Severity, counted

_MARKS = {
    Severity.OK: ("green", "ok"),
    Severity.NOTE: ("cyan", "note"),
    Severity.WARNING: ("yellow", "warning"),
    Severity.PROBLEM: ("bold red", "PROBLEM"),
}
_AREAS = {
    "reach": "Reachability",
    "tls": "TLS",
    "discovery": "Discovery",
    "metadata": "Metadata",
    "keys": "Keys",
    "clock": "Clock",
    "introspection": "Introspection",
    "challenge": "Refusals of the API",
    "resource": "Protected resource metadata",
    "guard": "Your guard",
    "redirects": "Redirects",
    "cors": "CORS",
    "caching": "Caching",
    "server": "The server by RFC 9700",
    "store": "The server's database",
    "speed": "Response times",
}
_WIDEST, _INDENT, _LABEL = 100, 10, 10


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination found.

    Attributes:
        target: the URL that was examined.
        kinds: what the target is: "issuer", "api", "server"; empty if that is unknown.
        findings: in the order of the checks.
        requests: how many requests were sent.
        seconds: how long it took.
    """

    target: str
    kinds: tuple[str, ...]
    findings: tuple[Finding, ...]
    requests: int
    seconds: float

    def count(self, severity: Severity) -> int:
        """Return how many findings have a severity."""
        return sum(each.severity is severity for each in self.findings)

    def as_members(self) -> dict[str, Any]:
        """Return the report as JSON members."""
        return {
            "target": self.target,
            "kinds": list(self.kinds),
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "counts": {str(each): self.count(each) for each in Severity},
            "findings": [{"area": each.area, **asdict(each)} for each in self.findings],
        }


def lines(report: Report, *, verbose: bool = False) -> Iterator[str]:
    """Yield the report line by line, with rich's markup."""
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    kinds = " and ".join(_KINDS[each] for each in report.kinds) or "not recognised"
    yield from _wrapped(f"{report.target}: {kinds}", width, "", "  ")
    for area in sorted({each.area for each in report.findings}, key=list(_AREAS).index):
        yield ""
        yield f"[bold]{_AREAS[area]}[/]"
        for each in report.findings:
            if each.area == area:
                yield from _described(each, width, verbose=verbose)
    counts = ", ".join(_counted(report, each) for each in reversed(Severity))
    yield ""
    yield from _wrapped(
        f"{counts}; {report.requests} requests in {report.seconds:.1f} s", width, "", "  "
    )


_KINDS = {
    "issuer": "an issuer",
    "api": "an API",
    "server": "a bearerguard authorization server",
}


def _counted(report: Report, severity: Severity) -> str:
    count = report.count(severity)
    return f"{count} ok" if severity is Severity.OK else counted(count, str(severity))


def _described(finding: Finding, width: int, *, verbose: bool) -> Iterator[str]:
    style, mark = _MARKS[finding.severity]
    first, *rest = _wrapped(finding.found, width, " " * _INDENT, " " * _INDENT)
    yield f"  [{style}]{mark:<{_INDENT - 2}}[/]{first[_INDENT:]}"
    yield from rest
    if finding.severity is Severity.OK and not verbose:
        return
    named = {"expected": finding.expected, "remedy": finding.remedy, "see": finding.section}
    named |= {"check": finding.check} if verbose else {}
    for name, text in named.items():
        if text:
            indent = " " * (_INDENT + _LABEL)
            first, *rest = _wrapped(text, width, indent, indent)
            yield f"{'':{_INDENT}}[dim]{name:<{_LABEL}}[/]{first[len(indent) :]}"
            yield from rest


def _wrapped(text: str, width: int, first: str, rest: str) -> Sequence[str]:
    """Return a text in lines, with its control characters escaped; no URL is broken."""
    found = textwrap.wrap(
        output.harmless(text),
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [output.shown(line) for line in found or [first]]
