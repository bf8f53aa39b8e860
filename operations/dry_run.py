"""`penstock run --dry-run`: are the settings right, can every source and the target be reached, what would be read."""

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from foundation.errors import PenstockError, SourceError
from foundation.settings import Settings
from ingestion.preview import preview
from operations.run import source_variables


def dry_run(root: Path, settings: Settings, console: Console) -> int:
    """Print the findings and change nothing; the exit code of the first thing that cannot be reached, or 0."""
    code = 0

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    with source_variables(root, settings) as variables:
        for found in preview(root, settings, variables, datetime.now(UTC).date()):
            say(f"{found.source}: {found.location}: {found.error.one_line() if found.error else found.finding}")
            if found.error is not None:
                code = code or SourceError.exit_code  # as in a run, where the others go on
    try:
        say(f"publish target: {_look_at_target(settings)}")
    except PenstockError as error:
        say(f"publish target: {error.one_line()}")
        code = code or error.exit_code
    for mart in settings.outputs:
        say(f"would publish: {settings.database_schema}.{mart}")
    say("dry run: nothing was changed")
    return code


def _look_at_target(settings: Settings) -> str:
    if settings.database_url is None:
        return "the embedded Postgres, started when needed"
    from publishing.target import connect, describe

    dsn = settings.database_url.get_secret_value()
    with connect(dsn):
        return f"{describe(dsn)} answers"
