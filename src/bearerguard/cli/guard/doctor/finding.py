"""A rule that the doctor checks, and a finding: what was found by one rule, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is, the mildest first."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found by one check.

    Attributes:
        check: the stable code of the check, `area.name`.
        severity: how bad it is.
        found: what was found.
        expected: what a correct service does.
        remedy: what to change; empty if nothing is to be changed.
        section: where the rule is from.
    """

    check: str
    severity: Severity
    found: str
    expected: str
    remedy: str
    section: str

    @property
    def area(self) -> str:
        """The group of checks that it belongs to."""
        return self.check.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one check expects, and what to change if the service differs."""

    check: str
    expected: str
    remedy: str
    section: str

    def ok(self, found: str) -> Finding:
        """Return a finding that is as expected."""
        return Finding(self.check, Severity.OK, found, self.expected, "", self.section)

    def note(self, found: str, remedy: str | None = None) -> Finding:
        """Return a finding that is useful to know, and often a choice."""
        return self._unexpected(Severity.NOTE, found, remedy)

    def warning(self, found: str, remedy: str | None = None) -> Finding:
        """Return a finding that will cause trouble in some situation."""
        return self._unexpected(Severity.WARNING, found, remedy)

    def problem(self, found: str, remedy: str | None = None) -> Finding:
        """Return a finding that breaks something, or is unsafe, now."""
        return self._unexpected(Severity.PROBLEM, found, remedy)

    def _unexpected(self, severity: Severity, found: str, remedy: str | None) -> Finding:
        chosen = self.remedy if remedy is None else remedy
        return Finding(self.check, severity, found, self.expected, chosen, self.section)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 key" or "3 keys"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
