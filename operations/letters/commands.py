"""`penstock deadletters`: letters listed by reason, shown whole, written to a file to be corrected, discarded."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
from rich.console import Console
from rich.table import Column

from foundation.errors import ConfigError, StorageError
from foundation.queries import fetch_dicts
from foundation.settings import Settings
from foundation.warehouse import hold_warehouse, open_warehouse, quote_literal
from operations.letters.examples import place, printable
from operations.letters.ledger import DISCARD, keys_of, try_to_update, update
from operations.letters.selection import Selection, full_ids
from operations.lock import run_lock
from operations.showing import plain_table, say

# One file of letters, by its ending, and how DuckDB writes it.
FORMATS = {".csv": "format csv, header true, force_quote *", ".ndjson": "format json", ".jsonl": "format json"}
# What a spreadsheet takes for a formula bears a ' in a CSV file, which a replay takes off again.
AS_FORMULA = r"(?:'*\s*[=+\-@＝＋－＠]|'*[\t\r\n])"
NARROWEST = 12
_EXPORTED = "letter_id, source, stage, state, reasons, message, location, line, page"


def list_groups(settings: Settings, selection: Selection) -> list[dict[str, Any]]:
    """One entry for each source, stage, reason and state: letters, first_seen, last_seen, place of one of them."""
    if not try_to_update(settings):
        return []
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        condition, values = selection.condition(connection)
        groups = fetch_dicts(
            connection,
            f"""
            select
                source, stage, reason, state, count(*) as letters, min(first_seen) as first_seen,
                max(last_seen) as last_seen,
                arg_min({{'location': location, 'line': line, 'page': page}}, (first_seen, location, line)) as example
            from (select *, unnest(string_split(coalesce(reasons, ''), ',')) as reason
                from ops.dead_letters where {condition})
            group by source, stage, reason, state order by letters desc, source, stage, reason, state
            """,
            values,
        )
    return [{**group, "example": place(group["example"])} for group in groups]


def list_letters(settings: Settings, selection: Selection, limit: int) -> list[dict[str, Any]]:
    """One entry a letter, the last seen first: its id, where it is from, why, and nothing of what it holds."""
    if not try_to_update(settings):
        return []
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        condition, values = selection.condition(connection)
        return fetch_dicts(
            connection,
            f"""
            select letter_id, source, stage, reasons, state, attempts, location, line, page, first_seen, last_seen
            from ops.dead_letters where {condition}
            order by last_seen desc, source, location, line, letter_id limit {int(limit)}
            """,
            values,
        )


def show_letter(settings: Settings, letter_id: str) -> dict[str, Any]:
    """Everything about one letter, its record and its history included. Raises ConfigError where there is none."""
    if not try_to_update(settings):
        raise ConfigError(f"no dead letter has the id {letter_id}", fix="nothing was read yet")
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        (whole,) = full_ids(connection, [letter_id])
        (letter,) = fetch_dicts(connection, "select * from ops.dead_letters where letter_id = $id", {"id": whole})
        letter["history"] = _history(connection, letter)
    if letter["record_bytes"] is not None:
        letter["record_bytes"] = bytes(letter["record_bytes"]).hex()
    return letter


def export_letters(settings: Settings, selection: Selection, file: Path, *, is_forced: bool) -> int:
    """Write letters to a file that can be corrected and replayed; how many. The ending says in which form.

    Raises ConfigError or StorageError; the file is whole or not there at all.
    """
    if file.suffix.lower() not in FORMATS:
        raise ConfigError(f"{file.name} does not say its form", where="--to", fix=f"end it in {', '.join(FORMATS)}")
    if file.exists() and not is_forced:
        raise ConfigError(f"{file} is there already", where="--to", fix="name another file, or say --force")
    if not try_to_update(settings):
        raise ConfigError("there are no dead letters", fix="nothing was read yet")
    temporary = file.with_name(f".{file.name}.{uuid4().hex}")
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        condition, values = selection.or_open().condition(connection)
        record = "coalesce(corrected, record)"
        columns = [f"{_EXPORTED}, {record} as record"]
        if file.suffix.lower() == ".csv":
            texts = {"reasons", "message", "location"}
            columns = [f"{_neutral(name)} as {name}" if name in texts else name for name in _EXPORTED.split(", ")] + [
                f"{_neutral(record)} as record"
            ]
        query = (
            f"select {', '.join(columns)} from ops.dead_letters where {condition} order by source, location, line, "
            "letter_id"
        )
        try:
            (count,) = connection.execute(
                f"copy ({query}) to {quote_literal(str(temporary))} ({FORMATS[file.suffix.lower()]})", values
            ).fetchone() or (0,)
            temporary.replace(file)
        except (OSError, duckdb.IOException) as error:
            raise StorageError(
                f"cannot write: {getattr(error, 'strerror', None) or str(error).splitlines()[0]}",
                where=str(file),
                fix="make room or mend the permissions",
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    return int(count)


def discard_letters(settings: Settings, selection: Selection, why: str) -> int:
    """Mark letters as done with, for a reason that is kept; how many that were not so before.

    Raises ConfigError, or LockedError while a run is going.
    """
    if not why.strip():
        raise ConfigError("a discarded letter keeps the reason why", where="--because", fix="say it")
    if selection.is_all:
        raise ConfigError("nothing says which letters", fix="give ids, --source, --reason, --stage, --since or --until")
    if not settings.warehouse.exists():
        raise ConfigError("there are no dead letters", fix="nothing was read yet")
    with (
        run_lock(settings.work_dir, command="deadletters discard"),
        hold_warehouse(settings.warehouse),
        open_warehouse(settings.warehouse) as connection,
    ):
        update(connection, keys_of(settings))
        condition, values = selection.or_open().condition(connection)
        (count,) = connection.execute(
            f"select count(*) from ops.dead_letters where state <> 'discarded' and {condition}", values
        ).fetchone() or (0,)
        connection.execute(
            f"insert into ops.letter_events select letter_id, '{DISCARD}', null, $at, $why from ops.dead_letters "
            f"where state <> 'discarded' and {condition}",
            {**values, "at": datetime.now(UTC), "why": why.strip()},
        )
        update(connection, keys_of(settings))
    return int(count)


def print_groups(groups: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One line for each source, stage, reason and state, most letters first."""
    if not groups:
        say(console, "no dead letters")
        return
    # Reasons and places may be of any length.
    reason, place_of_one = (Column(head, overflow="fold", min_width=NARROWEST) for head in ("reason", "such as"))
    dates = ("first seen (UTC)", "last seen")
    table = plain_table(("source", "stage", reason, "state"), ["letters"], (*dates, place_of_one))
    for group in groups:
        table.add_row(
            *(printable(str(group[name] or "")) for name in ("source", "stage", "reason", "state")),
            f"{group['letters']:,}",
            _minute(group["first_seen"]),
            _minute(group["last_seen"]),
            group["example"],
        )
    console.print(table, markup=False, highlight=False, crop=False)


def print_letters(letters: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One line a letter."""
    if not letters:
        say(console, "no dead letters")
    for letter in letters:
        say(
            console,
            f"{letter['letter_id']} {letter['state']} {letter['source']} {letter['stage']} "
            f"{printable(letter['reasons'] or '')}: {place(letter)}",
        )


def print_letter(letter: Mapping[str, Any], console: Console) -> None:
    """A letter whole: what is known of it, its history, its record."""

    for name, value in letter.items():
        if name not in ("record", "corrected", "record_bytes", "history") and value is not None:
            say(console, f"{name.replace('_', ' '):<12} {printable(str(value))}")
    for event in letter["history"]:
        told = " ".join(printable(str(event[name])) for name in ("event", "note") if event[name])
        say(
            console,
            f"{event['happened_at']:%Y-%m-%d %H:%M:%S} {told}"
            + (f", run {event['run_id']}" if event["run_id"] else ""),
        )
    for name in ("record", "corrected"):
        if letter[name] is not None:
            say(console, f"{name}:")
            say(console, "\n".join(printable_line(line) for line in letter[name].split("\n")))


def printable_line(line: str) -> str:
    """A line of a record as it is, without what a terminal would take as a command."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def _history(connection: duckdb.DuckDBPyConnection, letter: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What happened to a letter, in its order: happened_at, event, run_id, note."""
    found = [
        "select happened_at, event, run_id, note from ops.letter_events where letter_id = $id",
        "select tried_at, 'replayed: ' || outcome, run_id, nullif(concat_ws(': ', reasons, message), '') "
        "from ops.letter_tries where letter_id = $id",
    ]
    values = {"id": letter["letter_id"]}
    if letter["stage"] in ("fetch", "parse"):
        # A row that a crash repeated is one; of an id each try has a row.
        found.append(
            "select distinct occurred_at, 'set aside', run_id, reason || ': ' || message from raw.dead_letters "
            "where source = $source and (dead_letter_id = $id or ($is_fetched and location = $location))"
        )
        values |= {"source": letter["source"], "location": letter["location"]}
        values |= {"is_fetched": letter["page"] is not None and letter["line"] is None}
    else:
        found.append("select first_seen, 'set aside', run_id, null from ops.dead_letters where letter_id = $id")
    return fetch_dicts(connection, " union all ".join(found) + " order by 1, 2 desc", values)


def _neutral(text: str) -> str:
    pattern = quote_literal(f"^{AS_FORMULA}")
    return f"case when regexp_matches({text}, {pattern}) then chr(39) || {text} else {text} end"


def _minute(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
