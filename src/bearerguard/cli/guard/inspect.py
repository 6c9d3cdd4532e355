"""`bearerguard inspect` shows what your policy says about a token: every check, and the remedy."""

from __future__ import annotations

import inspect as signatures
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from textwrap import fill
from typing import Annotated, Any

import typer

from bearerguard.cli import output
from bearerguard.cli.guard.app_guard import app_guard
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement, combined, role, scopes, step_up
from bearerguard.guard.config.settings import PREFIX, SETTINGS, Setting
from bearerguard.guard.explanation import Check, CheckStatus, Explanation
from bearerguard.guard.guard import Guard
from bearerguard.middleware.app_guard import AppGuard

# A longer text is not a token: a guard accepts 16 KiB by default.
_MAX_LENGTH = 1_048_576
# A terminal silently truncates longer lines.
_TERMINAL_LINE = 4095
_DATES = ("exp", "nbf", "iat", "auth_time", "updated_at")
_CODES = {"accepted": 0, "refused": output.FAILED, "unavailable": output.UNAVAILABLE}
# On a terminal.
_SIGNS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "not reached": ("-", "dim"),
    "not applicable": ("-", "dim"),
}
_NAME, _LEAST = 16, 20  # the width of the names, and the least width of the texts
# The settings that have an option. The others, secrets above all, can be set by variables only.
_OPTIONS = (
    *("url", "audience", "jwks_uri", "discovery_url", "algorithms", "token_types"),
    *("accept_id_tokens", "strict", "tokens", "aliases", "leeway", "insecure_allow_http"),
)
_POLICY = "Policy"


def flag_of(setting: Setting) -> str:
    """Return the option of a setting: `--jwks-uri` for `BEARERGUARD_JWKS_URI`."""
    return "--" + setting.name.removeprefix(PREFIX).lower().replace("_", "-")


FLAGS: Mapping[str, Setting] = {
    setting.option: setting
    for setting in SETTINGS
    if setting.owner == "Issuer" and setting.option in _OPTIONS
}


def _with_policy(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each setting of a policy, with the setting's own meaning."""
    signature = signatures.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    added = []
    for option, setting in FLAGS.items():
        is_flag = setting.kind == "true or false"
        text = f"{setting.meaning[0].upper()}{setting.meaning[1:]}."
        if setting.kind == "list":
            text += " Several are separated by commas."
        shown = typer.Option(
            flag_of(setting), help=text, rich_help_panel=_POLICY, show_default=False
        )
        kind = bool if is_flag else str
        added.append(
            signatures.Parameter(
                option,
                signatures.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind | None, shown],
            )
        )
    whole = [*own, *added]
    command.__signature__ = signature.replace(parameters=whole)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in whole} | {"return": None}
    return command


@_with_policy
def inspect(
    token: Annotated[
        str | None,
        typer.Argument(
            metavar="-",
            help="- or nothing: read the token from standard input, or ask for it. A token given"
            " here can be read by every user of the machine.",
            show_default=False,
        ),
    ] = None,
    *,
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            metavar="MODULE:NAME",
            help="The guard, or the app that has it, as a server imports it: shop.main:app.",
            rich_help_panel=_POLICY,
            show_default=False,
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="A scope that the route requires; repeatable.", show_default=False),
    ] = None,
    role_: Annotated[
        list[str] | None,
        typer.Option(
            "--role", help="A role that the route requires; repeatable.", show_default=False
        ),
    ] = None,
    acr: Annotated[
        list[str] | None,
        typer.Option(
            help="A login that the route requires, as the claim acr names it; repeatable:"
            " one suffices.",
            show_default=False,
        ),
    ] = None,
    max_age: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS",
            help="How old the login may be that the route requires.",
            show_default=False,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help="Decide at this time instead of now: Unix seconds, or 2026-11-28T18:00:00Z.",
            show_default=False,
        ),
    ] = None,
    show_claims: Annotated[
        bool,
        typer.Option("--show-claims", help="Print the values of the claims: personal data."),
    ] = False,
    json: output.Json = False,
    **policy: Any,
) -> None:
    """Explain why a token is accepted or refused.

    The token is read from standard input: bearerguard token | bearerguard inspect

    The policy is that of --app, of the options below, or of the variables
    BEARERGUARD_ISSUER, BEARERGUARD_AUDIENCE and others.

    Exit codes: 0 accepted, 1 refused, 2 the policy is wrong, 75 the issuer is
    unavailable.
    """
    with output.endings(json=json):
        when = None if at is None else _time(at)
        found = _policy(app, policy)
        requirement = combined(
            found.requirement, _required(scope, role_), _required_login(acr, max_age)
        )
        with found.guard:
            explanation = found.guard.explain(_token(token), require=requirement, at=when)
    if json:
        output.as_json(_document(explanation, show_claims=show_claims))
    else:
        _print(explanation, show_claims=show_claims)
    raise typer.Exit(_CODES[explanation.result])


# What is given


def _policy(app: str | None, policy: Mapping[str, Any]) -> AppGuard:
    given = {FLAGS[option]: value for option, value in policy.items() if value is not None}
    if app is not None:
        if given:
            named = ", ".join(map(flag_of, given))
            raise ConfigurationError(f"--app, {named}: the app has its own policy: leave one out")
        return app_guard(app)
    names = {setting.name: value for setting, value in given.items()}
    values = {**os.environ, **names}
    if not values.get(f"{PREFIX}ISSUER"):
        raise ConfigurationError(
            "there is no policy: pass --app MODULE:NAME, or --issuer and --audience, or set"
            f" {PREFIX}ISSUER and {PREFIX}AUDIENCE"
        )
    try:
        return AppGuard(Guard.from_mapping(values))
    except ConfigurationError as error:
        raise ConfigurationError(_naming_flags(str(error))) from error


def _naming_flags(message: str) -> str:
    """Name the option beside the variable, in the message of an error."""
    for setting in FLAGS.values():
        if message.startswith((f"{setting.name}:", f"{setting.name} ")):
            return f"{flag_of(setting)}, {message}"
    return message


def _required(names: list[str] | None, roles: list[str] | None) -> Requirement | None:
    # A value may have several scopes, as the parameter `scope` has them.
    wanted = [each for name in names or () for each in name.split()]
    return combined(scopes(*wanted) if wanted else None, *map(role, roles or ()))


def _required_login(acr: list[str] | None, max_age: int | None) -> Requirement | None:
    given = acr or max_age is not None
    return step_up(acr=acr or (), max_age=max_age) if given else None


def _time(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            seconds = math.nan
        else:
            # Without an offset it is UTC, as all times that are printed.
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise ConfigurationError(
            f"--at: {text!r} is not a time: pass Unix seconds, or such as 2026-11-28T18:00:00Z"
        )
    return seconds


def _token(given: str | None) -> str:
    if given is not None and given != "-":
        output.warn(
            "a token in an argument is read by every user of this machine, and kept in the shell's"
            " history: pass it on standard input"
        )
        text = given
    elif given is None and sys.stdin.isatty():
        text = typer.prompt("Access token", hide_input=True, err=True)
        if len(text) >= _TERMINAL_LINE:
            output.warn("the terminal may have cut the token: pass it on standard input")
    else:
        text = sys.stdin.read(_MAX_LENGTH)
    token = _bare(text.strip())
    if not token:
        raise ConfigurationError("standard input: a token is expected")
    return token


def _bare(text: str) -> str:
    """Return the token in a copied header field or its value; any other text as it is."""
    value = text.partition(":")[2].strip() if text[:14].lower() == "authorization:" else text
    scheme, _, rest = value.partition(" ")
    return rest.strip() if scheme.lower() == "bearer" else value


# What is printed


def _document(explanation: Explanation, *, show_claims: bool) -> dict[str, Any]:
    document = explanation.to_dict() | {"at": output.moment(explanation.at)}
    return document | {"claims": explanation.claims.to_dict()} if show_claims else document


def _print(explanation: Explanation, *, show_claims: bool) -> None:
    output.say(_verdict(explanation))
    output.say("")
    for check in explanation.checks:
        if check.status in {"passed", "failed"}:
            _print_lines(check.status, check.name, _texts(check))
    for status in ("not reached", "not applicable"):
        names = [check.name for check in explanation.checks if check.status == status]
        if names:
            _print_lines(status, "", [("", ", ".join(names))])
    if not explanation.claims:
        return
    output.say("")
    if show_claims:
        claims = explanation.claims.to_dict()
        output.fields({name: _value(name, value) for name, value in claims.items()})
    else:
        listed = ", ".join(explanation.claims)
        output.say(_folded(f"claims  {listed} (their values: --show-claims)", "        "))


def _print_lines(status: CheckStatus, name: str, said: Sequence[tuple[str, str]]) -> None:
    """Print a status as a sign (in a pipe as a word), then a name and its texts."""
    sign, style = _SIGNS[status]
    is_terminal = output.columns() is not None
    mark = sign if is_terminal else f"{status:<14}"
    if not name:  # of several checks
        name = status if is_terminal else ""
    for position, (label, text) in enumerate(said):
        first = position == 0
        start = f" {name if first else '':<{_NAME if name else 0}}{' ' if name else ''}{label}"
        indent = " " * (len(mark) + len(start))
        folded = _folded(indent + text, indent).lstrip(" ")
        output.beginning(
            mark if first else indent[: len(mark)], style if first else "none", start + folded
        )


def _folded(text: str, indent: str) -> str:
    """Break a text into lines of the terminal's width; all but the first begin with `indent`."""
    width = output.columns()
    if width is None:
        return text
    room = max(width, len(indent) + _LEAST)
    return fill(text, room, subsequent_indent=indent, break_on_hyphens=False)


def _verdict(explanation: Explanation) -> str:
    moment = output.moment(explanation.at)
    if explanation.reason is None:
        return f"accepted at {moment}"
    document = explanation.to_dict()
    error = f" {document['error']}" if document["error"] else ""
    return f"{explanation.result}: {document['status']}{error} ({document['reason']}) at {moment}"


def _texts(check: Check) -> list[tuple[str, str]]:
    """Return the lines of a check, each as a label and a text."""
    if check.status == "passed":
        return [("", check.actual)]
    # The parts of a reference stay on one line.
    reference = f" ({check.reference})".replace(" ", "\u00a0") if check.reference else ""
    return [
        ("actual    ", check.actual),
        ("expected  ", f"{check.expected}{' ' if reference else ''}{reference.strip()}"),
        ("remedy    ", check.remedy),
    ]


def _value(name: str, value: Any) -> str:
    """Return a claim as text; a date with its meaning in UTC."""
    if name in _DATES and isinstance(value, int | float) and 0 <= value < time.time() * 10:
        return f"{value} ({output.moment(value)})"
    return str(value)
