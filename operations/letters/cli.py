"""`penstock deadletters`: its subcommands and their options, and the options that `penstock replay` shares."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from foundation.settings import Settings

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


def selected(
    sources: list[str] | None,
    reasons: list[str] | None,
    stages: list[str] | None,
    states: list[str] | None,
    since: datetime | None,
    until: datetime | None,
    runs: list[str] | None,
    ids: list[str] | None = None,
) -> "Selection":
    """The letters that these options are about. Raises ConfigError."""
    from operations.letters.selection import Selection

    return Selection(sources or (), reasons or (), stages or (), states or (), since, until, ids or (), runs or ())


def commands(settings: Callable[[], Settings], console: Callable[[], Console]) -> typer.Typer:
    """The subcommands, over the settings and the console of the command line."""
    app = typer.Typer(help="Records that could not go on: listed, shown, exported, discarded.", no_args_is_help=True)

    def show(found: Any, printed: Callable[[Any, Console], None], as_json: bool) -> None:
        if as_json:
            print(json.dumps(found, indent=2, default=str))  # noqa: T201 - for machines
        else:
            printed(found, console())

    @app.command("list")
    def list_(
        source: Sources = None,
        reason: Reasons = None,
        stage: Stages = None,
        state: States = None,
        since: Since = None,
        until: Until = None,
        run: Runs = None,
        ids: Annotated[bool, typer.Option("--ids", help="Letter by letter, with their ids.")] = False,
        limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="With --ids: at most so many.")] = 100,
        as_json: AsJson = False,
    ) -> None:
        """How many there are, by source, stage, reason and state; nothing of what they hold."""
        from operations.letters import commands as letters

        chosen = selected(source, reason, stage, state, since, until, run)
        if ids:
            show(letters.list_letters(settings(), chosen, limit), letters.print_letters, as_json)
        else:
            show(letters.list_groups(settings(), chosen), letters.print_groups, as_json)

    @app.command("show")
    def show_(
        letter_id: Annotated[str, typer.Argument(help="Its id, or how that begins.")], as_json: AsJson = False
    ) -> None:
        """One letter whole: its record, where it is from, every reason, its history."""
        from operations.letters import commands as letters

        show(letters.show_letter(settings(), letter_id), letters.print_letter, as_json)

    @app.command()
    def export(
        to: Annotated[Path, typer.Option("--to", help="A file that ends in .csv or .ndjson.")],
        ids: Ids = None,
        source: Sources = None,
        reason: Reasons = None,
        stage: Stages = None,
        state: States = None,
        since: Since = None,
        until: Until = None,
        run: Runs = None,
        force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Write letters to a file; correct the column `record` there, then `penstock replay FILE`."""
        from operations.letters import commands as letters

        chosen = selected(source, reason, stage, state, since, until, run, ids)
        count = letters.export_letters(settings(), chosen, to, is_forced=force)
        show(
            {"file": str(to), "letters": count},
            lambda _, out: out.print(f"{count:,} letters: {to}", markup=False, highlight=False, soft_wrap=True),
            as_json,
        )

    @app.command()
    def discard(
        because: Annotated[str, typer.Option("--because", help="Why; it is kept.")],
        ids: Ids = None,
        source: Sources = None,
        reason: Reasons = None,
        stage: Stages = None,
        state: States = None,
        since: Since = None,
        until: Until = None,
        run: Runs = None,
        as_json: AsJson = False,
    ) -> None:
        """Be done with letters without a replay. They are kept, as is the reason."""
        from operations.letters import commands as letters

        count = letters.discard_letters(
            settings(), selected(source, reason, stage, state, since, until, run, ids), because
        )
        show({"discarded": count}, lambda _, out: out.print(f"{count:,} letters discarded", highlight=False), as_json)

    return app
