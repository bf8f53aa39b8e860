"""How a page is made: its template, the words for numbers and times, and a file that is whole or not there."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import PenstockError, StorageError
from foundation.failpoints import failpoint

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


def write_page(out: Path, template: str, values: Mapping[str, Any]) -> Path:
    """The page at `out`, replaced in one step, so that nobody sees half of it.

    Raises StorageError when it cannot be written.
    """
    has_dbt_docs = (out.parent / "dbt" / "index.html").exists()  # `penstock docs` writes them
    html = _environment().get_template(template).render(values, has_dbt_docs=has_dbt_docs)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Under a name of its own for each page, so that what a killed run left is written over by the next.
        unfinished = out.with_name(f".{out.name}.unfinished")
        try:
            unfinished.write_text(html, encoding="utf-8")
            unfinished.chmod(0o644)  # a web server runs as another user
            failpoint("page.written")
            unfinished.replace(out)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(
            f"cannot write the page: {error.strerror}", where=str(out), fix="free some space or mend the permissions"
        ) from error
    return out


def count(value: object) -> str:
    """`12345` as `12,345`; a dash for what is not known."""
    return f"{value:,}" if isinstance(value, int) else "–"


def moment(value: object) -> str:
    """A point in time in UTC, to the minute."""
    at = as_time(value)
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def span(value: object) -> str:
    """A timedelta in its largest two units; the second is left out where it is zero."""
    if not isinstance(value, timedelta):
        return "–"
    seconds = int(value.total_seconds())
    for unit, name, rest, rest_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= unit:
            more = seconds % unit // rest
            return f"{seconds // unit} {name} {more} {rest_name}" if more else f"{seconds // unit} {name}"
    return f"{max(0.0, value.total_seconds()):.1f} s" if seconds < 10 else f"{seconds} s"


def as_time(value: object) -> datetime | None:
    """A timestamp of the ledger, which may be text, with a time zone; None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


@cache
def exit_code_meanings() -> dict[int, str]:
    """What each exit code says, in the words of foundation/errors.py."""
    return {kind.exit_code: (kind.__doc__ or "").splitlines()[0] for kind in PenstockError.__subclasses__()}


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=count, moment=moment, span=span)
    return environment
