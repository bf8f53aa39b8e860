"""`penstock deadletters`: its subcommands and their options, and the options that `penstock replay` shares."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from foundation.settings import Settings
from operations.showing import say, show

if TYPE_CHECKING:
    from operations.letters.selection import Selection

Sources = Annotated[list[str] | None, typer.Option("--source", help="Of this source; may be given again, as others.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="With this reason, or rule that was broken.")]
Stages = Annotated[list[str] | None, typer.Option("--stage", help="Of this stage: fetch, parse, rule or gate.")]
States = Annotated[list[str] | None, typer.Option("--state", help="open, replayed, resolved or discarded.")]
_FORMS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
Since = Annotated[datetime | None, typer.Option("--since", formats=_FORMS, help="Last seen then or later, UTC.")]
Until = Annotated[datetime | None, typer.Option("--until", formats=_FORMS, help="Last seen before that, UTC.")]
Runs = Annotated[list[str] | None, typer.Option("--run", help="Of this run, which found or replayed it.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids, or how they begin.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def _filters(
    *,
    source: Sources = None,
    reason: Reasons = None,
    stage: Stages = None,
    state: States = None,
    since: Since = None,
    until: Until = None,
    run: Runs = None,
) -> "Selection":
    from operations.letters.selection import Selection

    return Selection(source or (), reason or (), stage or (), state or (), since, until, runs=run or ())


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, called by name, with the options of the filters in place of its parameter `chosen`.

    When called it raises ConfigError for a stage or a state that there is not.
    """
    filters = inspect.signature(_filters).parameters
    shown = inspect.signature(command)
    parameters: list[inspect.Parameter] = []
    for name, parameter in shown.parameters.items():
        parameters += filters.values() if name == "chosen" else [parameter]

    @functools.wraps(command)
    def narrowed(**given: Any) -> None:
        chosen = _filters(**{name: given.pop(name) for name in filters})
        command(chosen=chosen, **given)

    narrowed.__signature__ = shown.replace(parameters=parameters)  # type: ignore[attr-defined]
    narrowed.__annotations__ = {}  # typer reads the signature, and cannot resolve the name of a selection
    return narrowed


def commands(settings: Callable[[], Settings], console: Callable[[], Console]) -> typer.Typer:
    """The subcommands, over the settings and the console of the command line."""
    app = typer.Typer(help="Records that could not go on: listed, shown, exported, discarded.", no_args_is_help=True)

    @app.command("list")
    @filtered
    def list_(
        *,
        chosen: "Selection",
        ids: Annotated[bool, typer.Option("--ids", help="Letter by letter, with their ids.")] = False,
        limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="With --ids: at most so many.")] = 100,
        as_json: AsJson = False,
    ) -> None:
        """How many there are, by source, stage, reason and state; nothing of what they hold."""
        from operations.letters import commands as letters

        if ids:
            show(letters.list_letters(settings(), chosen, limit), letters.print_letters, console(), as_json=as_json)
        else:
            show(letters.list_groups(settings(), chosen), letters.print_groups, console(), as_json=as_json)

    @app.command("show")
    def show_(
        letter_id: Annotated[str, typer.Argument(help="Its id, or how that begins.")], as_json: AsJson = False
    ) -> None:
        """One letter whole: its record, where it is from, every reason, its history."""
        from operations.letters import commands as letters

        show(letters.show_letter(settings(), letter_id), letters.print_letter, console(), as_json=as_json)

    @app.command()
    @filtered
    def export(
        *,
        to: Annotated[Path, typer.Option("--to", help="A file that ends in .csv or .ndjson.")],
        ids: Ids = None,
        chosen: "Selection",
        force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Write letters to a file; correct the column `record` there, then `penstock replay FILE`."""
        from operations.letters import commands as letters

        count = letters.export_letters(settings(), replace(chosen, ids=ids or ()), to, is_forced=force)
        show(
            {"file": str(to), "letters": count},
            lambda _, out: say(out, f"{count:,} letters: {to}"),
            console(),
            as_json=as_json,
        )

    @app.command()
    @filtered
    def discard(
        *,
        because: Annotated[str, typer.Option("--because", help="Why; it is kept.")],
        ids: Ids = None,
        chosen: "Selection",
        as_json: AsJson = False,
    ) -> None:
        """Be done with letters without a replay. They are kept, as is the reason."""
        from operations.letters import commands as letters

        count = letters.discard_letters(settings(), replace(chosen, ids=ids or ()), because)
        show({"discarded": count}, lambda _, out: say(out, f"{count:,} letters discarded"), console(), as_json=as_json)

    return app
