"""The `penstock` command: one subcommand a stage, `run` for all of them. Exit codes are those of foundation.errors."""

import json
import signal
import sys
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from foundation.errors import ConfigError, PenstockError, StorageError
from foundation.imports import refuse_import
from foundation.settings import Settings, load_settings
from foundation.telemetry import switch_off_telemetry
from operations.letters import cli as letters_cli
from operations.scaffold import cli as scaffold_cli
from operations.showing import say, show

if TYPE_CHECKING:
    from operations.letters.replay import Replay
    from operations.letters.selection import Selection

app = typer.Typer(
    help="Records from CSV, JSON and HTTP APIs into Postgres tables that people trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@dataclass
class _Options:
    root: Path = Path()
    is_debug: bool = False


_options = _Options()

AsOf = Annotated[
    datetime | None,
    typer.Option("--as-of", formats=["%Y-%m-%d"], help="The day that counts as today for ages and future dates."),
]
SourceNames = Annotated[list[str] | None, typer.Option("--source", help="Only this source; may be given again.")]


def main() -> None:
    """Run the command line; a failure is one line on stderr and its exit code.

    A signal ends a command in silence, with 130, unless it is a run, which tells how far it came; so does a pipe that
    nobody reads any more, with 1.
    """
    switch_off_telemetry()
    # DuckDB imports pandas, where it is installed, at the first value that is bound: 0.3 s of every command. Great
    # Expectations, the only one to need it, lives in a process of its own.
    refuse_import("pandas")
    signal.signal(signal.SIGTERM, _stop)
    code = 0
    try:
        app()  # ends with SystemExit, also after a mistake in the command line, which exits with 2
    except PenstockError as error:
        code = _fail(error, error.one_line(), error.exit_code)
    except KeyboardInterrupt:  # before typer takes over, which then does the same
        code = 130
    except OSError as error:
        code = _fail(error, f"{error.strerror or error} ({error.filename or 'no file named'})", StorageError.exit_code)
    except Exception as error:  # noqa: BLE001 - a user gets a line to act on; --debug shows the traceback
        code = _fail(
            error, f"unexpected {type(error).__name__}: {' '.join(str(error).split())}: penstock --debug shows more", 1
        )
    sys.exit(code)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(error: Exception, line: str, code: int) -> int:
    if _options.is_debug:
        import traceback

        traceback.print_exception(error)
    print(f"error: {line}", file=sys.stderr)  # noqa: T201 - the one way out for an error
    return code


@app.callback()
def options(
    root: Annotated[Path, typer.Option(help="The folder of penstock.yml.")] = Path(),
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Options of every subcommand."""
    _options.root = root.absolute()
    _options.is_debug = debug


@app.command()
def run(
    as_of: AsOf = None,
    source: SourceNames = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check settings and reach of every source; change nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last run where it failed or was cut off.")
    ] = False,
) -> None:
    """Do it all: ingest, gate raw, build, gate marts, publish, report."""
    if resume and (dry_run or source):
        other = "--dry-run" if dry_run else "--source"
        raise ConfigError(f"{other} does not go with --resume", fix="the run goes on with the sources that it has")
    if dry_run:
        from operations.dry_run import dry_run as preview

        raise typer.Exit(preview(_root(), _settings(), Console()))
    _run("run", ("ingest", "build", "gate", "publish"), as_of, source, resume=resume)


@app.command()
def ingest(source: SourceNames = None) -> None:
    """Sources -> raw: what is new since the last run."""
    _run("ingest", ("ingest",), None, source)


@app.command()
def build(as_of: AsOf = None) -> None:
    """Raw -> candidate marts, with dbt."""
    _run("build", ("build",), as_of)


@app.command()
def gate() -> None:
    """Judge raw and the candidate marts, and close the books of the sources."""
    _run("gate", ("gate",))


@app.command()
def publish() -> None:
    """Candidate marts -> Postgres in one transaction, and the exports; the gate judges first."""
    _run("publish", ("gate", "publish"))


@app.command()
def status(
    last: Annotated[int, typer.Option(min=1, max=1000, help="How many runs.")] = 10,
    partitions: Annotated[
        bool, typer.Option("--partitions", help="The partitions of every source instead, as they were last read.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """The last runs, newest first; or the partitions of the sources."""
    from operations.ledger import read_partitions, read_runs
    from operations.status import print_partitions, print_runs

    warehouse = _settings().warehouse
    found = read_partitions(warehouse) if partitions else read_runs(warehouse, last)
    show(found, print_partitions if partitions else print_runs, _console(), as_json=as_json)


@app.command()
def books(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Default: the last that closed its books.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check instead that no entry of any run was changed, from the first on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """The books of a run: read = loaded + ..., loaded = accepted + ..., accepted - removed = published."""
    from operations.accounts import books_report as report

    settings = _settings()
    if verify:
        show(report.verify_books(settings), report.print_verdict, _console(), as_json=as_json)
    else:
        show(report.read_books(settings.warehouse, run_id), report.print_books, _console(), as_json=as_json)


@app.command()
def rebuild(
    as_of: Annotated[str, typer.Option("--as-of", metavar="RUN", help="The run whose marts are built again.")],
    any_models: Annotated[
        bool, typer.Option("--any-models", help="Also where the models are others than those of that run.")
    ] = False,
    into: Annotated[
        str | None,
        typer.Option(
            envvar="REBUILD_URL", help="An empty database, where the warehouse is Postgres.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Build the marts of an earlier run again, beside the warehouse, and compare them with its books."""
    from operations.accounts import rebuild as again

    console = Console(quiet=True) if as_json else _console()
    found = again.rebuild(_root(), _settings(), as_of, console, into=into, any_models=any_models)
    show(found, again.print_rebuild, console, as_json=as_json)
    again.require_equal(found)


@app.command()
def releases(
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many releases.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """What was published, newest first: run, commit, gate, rows added, changed and removed in every mart."""
    from operations import releases as found

    show(found.releases(_settings(), last), found.print_releases, _console(), as_json=as_json)


@app.command()
def diff(
    older: Annotated[int | None, typer.Argument(help="A release; default: the one before the other.")] = None,
    newer: Annotated[int | None, typer.Argument(help="A release; default: the one that is shown.")] = None,
    rows: Annotated[int, typer.Option(min=0, max=100_000, help="Show so many of the rows that differ.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """How two releases differ, mart by mart."""
    from operations import releases as found

    show(found.diff(_settings(), older, newer, rows), found.print_diff, _console(), as_json=as_json)


@app.command()
def rollback(
    release: Annotated[int | None, typer.Argument(help="A release; default: the publish before the one shown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show readers an earlier release again, all marts at once; the next run publishes forward."""
    from operations import releases as found

    console = Console(quiet=True) if as_json else _console()
    show(found.rollback(_root(), _settings(), release, console), found.print_rollback, console, as_json=as_json)


@app.command()
@letters_cli.filtered
def replay(
    *,
    file: Annotated[
        Path | None, typer.Argument(help="Letters that were exported and corrected; without it: as they were.")
    ] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this letter; may be given again.")] = None,
    chosen: "Selection",
    as_of: AsOf = None,
) -> None:
    """Dead letters through the whole pipeline again: corrected, or after a rule, an alias or a setting was mended."""
    from operations.letters.replay import NothingToReplay, Replay

    chosen = replace(chosen, ids=ids or ())
    if file is not None and chosen != type(chosen)():
        raise ConfigError("a file says itself which letters it corrects", fix="leave the filters out")
    has_models = (_root() / "dbt_project.yml").is_file()
    stages = ("ingest", "build", "gate", "publish") if has_models else ("ingest",)
    try:
        _run("replay", stages, as_of, replay=Replay(chosen, file))
    except NothingToReplay as nothing:
        say(_console(), f"nothing to replay: {nothing.one_line()}")


@app.command()
def docs() -> None:
    """The report site: runs, quality, dbt docs."""
    from operations.docs import make_site

    for page in make_site(_root(), _settings()):
        say(Console(), str(page))


@app.command()
def serve(port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8080) -> None:
    """Show the report site on 127.0.0.1 until Ctrl-C."""
    from operations.docs import serve_site

    serve_site(_settings().site_dir, port, Console())


@app.command()
def dsn(
    stop: Annotated[bool, typer.Option("--stop", help="Stop the embedded Postgres instead.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="With --stop: remove its data too.")] = False,
) -> None:
    """The connection string of the publish target, for psql and BI tools; starts the embedded Postgres if need be."""
    settings = _settings()
    if settings.database_url is not None:
        if stop:
            raise ConfigError("DATABASE_URL is set, so there is no embedded Postgres to stop", fix="unset it first")
        print(settings.database_url.get_secret_value())  # noqa: T201 - asked for
        return
    from publishing import embedded

    if stop:
        embedded.stop(settings.work_dir)
        if delete:
            embedded.delete(settings.work_dir)
    else:
        print(embedded.start(settings.work_dir))  # noqa: T201 - asked for


@app.command()
def schema() -> None:
    """The JSON Schema of penstock.yml, for editors."""
    print(json.dumps(Settings.model_json_schema(), indent=2))  # noqa: T201 - for a file


def _console() -> Console:
    """Wide enough for every table where nobody says how wide it is."""
    return Console(width=None if sys.stdout.isatty() else 140)


def _root() -> Path:
    return _options.root


def _settings() -> Settings:
    return load_settings(_root())


def _run(
    command: str,
    stages: tuple[str, ...],
    as_of: datetime | None = None,
    source: list[str] | None = None,
    *,
    resume: bool = False,
    replay: "Replay | None" = None,
) -> None:
    from operations.run import run as run_stages
    from operations.stages import Request

    settings = _settings()
    unknown = [name for name in source or () if name not in settings.sources]
    if unknown:
        raise ConfigError(
            f"no source is named {unknown[0]}", where="--source", fix=f"there are {', '.join(settings.sources)}"
        )
    day: date | None = as_of.date() if as_of else None
    request = Request(command, stages, day, source or (), _options.is_debug, resume, replay)
    summary = run_stages(_root(), settings, request, _console())
    if summary["exit_code"]:
        for error in summary["errors"]:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the one way out for an error
    raise typer.Exit(int(summary["exit_code"]))


app.add_typer(letters_cli.commands(_settings, _console), name="deadletters")
app.add_typer(scaffold_cli.commands(_root, _console), name="new")


if __name__ == "__main__":
    main()
