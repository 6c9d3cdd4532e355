"""The help of commands, for a terminal of 80 columns.

Each option has a line of its own, with its explanation below, so that no name of an option or a
variable is cut or broken. Knows no command.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandFunctionType

_BESIDE, _BELOW = "  ", "      "
# A no-break space marks a space at which no line may be broken.
_KEPT = "\N{NO-BREAK SPACE}"
_WHOLE = 1000  # typer cuts summaries at a length: no summary is as long
CONTEXT = {"help_option_names": ["-h", "--help"]}


class Application(typer.Typer):
    """A group of commands whose help is written by this file."""

    def __init__(
        self,
        *,
        name: str | None = None,
        help: str | None = None,  # noqa: A002 - as typer calls it
        cls: type[TyperGroup] | None = None,
    ) -> None:
        # Without "rich", errors are plain text too: a URL or an id in them is not broken. A
        # traceback with local variables would show secrets.
        # Without a help text, typer takes that of the callback.
        given: dict[str, Any] = {} if help is None else {"help": help}
        super().__init__(
            name=name,
            **given,
            cls=cls or Group,
            no_args_is_help=True,
            context_settings=CONTEXT,
            rich_markup_mode=None,
            add_completion=False,
            pretty_exceptions_enable=False,
        )

    def command(
        self, name: str | None = None, **options: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Register a command, as typer does, whose help is written by this file."""
        given: dict[str, Any] = {"cls": Command, "context_settings": CONTEXT} | options
        return super().command(name, **given)


class Command(TyperCommand):
    """A command whose help is written by this file."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line."""
        return _pieces(self, ctx)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write("\n".join(_page(self, ctx, formatter.width)))


class Group(TyperGroup):
    """A group whose help is written by this file."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line."""
        return [*_pieces(self, ctx), f"COMMAND{_KEPT}[ARGS]..."]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, and a line for each command."""
        lines = _page(self, ctx, formatter.width)
        names = self.list_commands(ctx)
        indent = max(map(len, names)) + 2 * len(_BESIDE)
        lines += ["", typer.style("Commands:", bold=True)]
        for name in names:
            label = f"{_BESIDE}{name}"
            text = f"{label:{indent}}{self.summary(ctx, name)}"
            first, *rest = _filled(text, formatter.width, "", " " * indent)
            lines += [first.replace(label, typer.style(label, bold=True), 1), *rest]
        formatter.write("\n".join(lines))

    def summary(self, ctx: Any, name: str) -> str:
        """Return what a command does, in one sentence."""
        command = self.get_command(ctx, name)
        return command.get_short_help_str(_WHOLE) if command else ""


def _pieces(command: TyperCommand | TyperGroup, ctx: Any) -> list[str]:
    parameters = command.get_params(ctx)
    return ["[OPTIONS]", *(_usage(e) for e in parameters if e.param_type_name == "argument")]


def _page(command: TyperCommand | TyperGroup, ctx: Any, width: int) -> list[str]:
    shown: list[Any] = [
        each for each in command.get_params(ctx) if not getattr(each, "hidden", False)
    ]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option"]
    usage = ["Usage:", ctx.command_path, *command.collect_usage_pieces(ctx)]
    lines = _filled(" ".join(usage), width, "", _BELOW)
    for paragraph in (command.help or "").split("\n\n"):
        lines += ["", *_filled(paragraph, width)]
    panels: dict[str, list[Any]] = {"Arguments": arguments, "Options": []}
    for each in options:
        panels.setdefault(getattr(each, "rich_help_panel", None) or "Options", []).append(each)
    for heading, parameters in panels.items():
        if parameters:
            lines += ["", typer.style(f"{heading}:", bold=True)]
        for each in parameters:
            lines.append(_BESIDE + typer.style(_named(each), bold=True))
            lines += _filled(each.help or "", width, _BELOW, _BELOW)
            lines += _filled(" ".join(_more(each, ctx)), width, _BELOW, _BELOW)
    return lines


def _filled(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_KEPT, " ") for line in lines]


def _usage(argument: Any) -> str:
    name = _value(argument) + ("..." if argument.nargs != 1 else "")
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _named(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _usage(parameter)
    spellings = [", ".join(sorted(parameter.opts, key=len)), *parameter.secondary_opts]
    return " / ".join(spellings) + ("" if parameter.is_flag else f" {_value(parameter)}")


def _value(parameter: Any) -> str:
    """Return the name of a parameter's value: its metavar, its choices, or its name's last word."""
    kind = parameter.type_descriptor
    if parameter.metavar:
        return str(parameter.metavar)
    if kind.is_choice:
        return "|".join(str(getattr(each, "value", each)) for each in kind.choices)
    return str(max(parameter.opts, key=len)).replace("_", "-").rpartition("-")[2].upper()


def _more(parameter: Any, ctx: Any) -> Iterable[str]:
    """Yield a parameter's variable, default and `[required]`, each in brackets and unbroken."""
    if parameter.envvar and parameter.show_envvar:
        yield _noted("environment", parameter.envvar)
    default = parameter.get_default(ctx)
    if isinstance(parameter.show_default, str):
        yield _noted("default", parameter.show_default)
    elif parameter.show_default and default not in (None, False, "", (), []):
        whole = isinstance(default, float) and default.is_integer()
        text = parameter.opts[0] if default is True else int(default) if whole else default
        yield _noted("default", text)
    if parameter.required and parameter.param_type_name == "option":
        yield "[required]"


def _noted(name: str, value: object) -> str:
    return f"[{name}:{_KEPT}{value}]".replace(" ", _KEPT)
