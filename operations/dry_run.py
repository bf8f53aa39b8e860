"""`penstock run --dry-run`: are the settings right, can every source and the target be reached, what would be read."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from foundation.errors import PenstockError, SourceError
from foundation.settings import Settings
from ingestion.preview import preview
from operations import showing
from operations.build import require_models
from operations.variables import source_variables


def dry_run(root: Path, settings: Settings, console: Console) -> int:
    """Print the findings and change nothing; the exit code of the first thing that cannot be reached, or 0."""
    code = 0
    say = functools.partial(showing.say, console)
    with source_variables(root, settings) as variables, _retries_told(say):
        for found in preview(root, settings, variables, datetime.now(UTC).date()):
            say(found.one_line())
            if found.error is not None:
                code = code or SourceError.exit_code  # as in a run, where the others go on
    try:
        require_models(root)
    except PenstockError as error:
        say(f"models: {error.one_line()}")
        code = code or error.exit_code
    try:
        say(f"publish target: {_look_at_target(settings)}")
    except PenstockError as error:
        say(f"publish target: {error.one_line()}")
        code = code or error.exit_code
    for mart in settings.outputs:
        say(f"would publish: {settings.database_schema}.{mart}")
    say("dry run: nothing was changed")
    return code


@contextlib.contextmanager
def _retries_told(say: Callable[[str], None]) -> Iterator[None]:
    """What an API is waited for is told as the rest is; the library's own line shows nothing but its own words."""
    from stamina import instrumentation

    before = instrumentation.get_on_retry_hooks()
    instrumentation.set_on_retry_hooks([lambda details: say(repr(details.caused_by))])
    try:
        yield
    finally:
        instrumentation.set_on_retry_hooks(before)


def _look_at_target(settings: Settings) -> str:
    if settings.database_url is None:
        return "the embedded Postgres, started when needed"
    from publishing.target import connect, describe

    dsn = settings.database_url.get_secret_value()
    with connect(dsn):
        return f"{describe(dsn)} answers"
