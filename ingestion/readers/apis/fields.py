"""Fields of records: the newest cursor among them, as number or moment, and the ids that other sources ask for."""

import json
import re
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from foundation.errors import ConfigError
from ingestion.readers.apis.answer import value_at

_TIME = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:(?P<mark>[Tt ])(?P<clock>\d{2}:\d{2}(?::\d{2}(?:\.(?P<fraction>\d+))?)?)(?P<zone>Z|z|[+-]\d{2}:?(?:\d{2})?)?)?"
)
# A text as a moment, in SQL; null where it is none.
MOMENT = """
    coalesce(
        try_cast(value as timestamptz),
        try_strptime(value, [
            '%Y-%m-%d %H:%M%z', '%Y-%m-%dT%H:%M%z', '%Y-%m-%dT%H:%M:%S%z', '%a, %d %b %Y %H:%M:%S %z',
            '%a, %d %b %Y %H:%M:%S GMT'
        ])
    )"""
# Numbers count more than moments, moments more than other texts: a stray word does not become the newest cursor.
_NEWEST = f"""
    with found as (
        select page, try(json_extract_string(record, $path)) as value from records where starts_with(record, '{{')
        union all
        select -1, $newest
    ),
    measured as (
        select page, value, try_cast(value as decimal(38, 9)) as number, {MOMENT} as moment
        from found
        where value is not null
    ),
    keyed as (
        select
            page,
            value,
            row(
                case when number is not null then 2 when isfinite(moment) then 1 else 0 end,
                coalesce(number, case when isfinite(moment) then epoch_us(moment) end),
                value
            ) as key
        from measured
    ),
    best as (select page, arg_max(value, key) as value, max(key) as key from keyed group by page)
    select page, arg_max(value, key) over (order by page) as newest from best order by page
"""


def newest_by_page(records: pa.Table, path: str, newest: str | None) -> dict[int, str]:
    """The newest cursor up to each page that has one, `newest` counted in.

    `records` has the columns page and record; the cursor stands at the dotted path of a record.
    """
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.register("records", records)
        found = connection.execute(_NEWEST, {"path": json_path(path), "newest": newest}).fetchall()
    return {int(page): str(value) for page, value in found}


def field_values(records: pa.Table, path: str) -> list[str]:
    """The values at a dotted path of the records, in their order, where there are any."""
    with duckdb.connect() as connection:
        connection.register("records", records)
        found = connection.execute(
            "select json_valid(record), try(json_extract_string(record, $path)) as value, "
            "case when not json_valid(record) then record end from records where starts_with(record, '{') "
            "and (value is not null or not json_valid(record)) order by page, line",
            {"path": json_path(path)},
        ).fetchall()
    values = [value if valid else value_at(json.loads(record), path) for valid, value, record in found]
    return [str(value) for value in values if value is not None]


def known_mask(records: pa.Table, digests: pa.Array) -> NDArray[np.bool_]:
    """Which of the records, in their order, have a SHA-256 among `digests`, as hex."""
    mask = np.zeros(len(records), np.bool_)
    with duckdb.connect() as connection:
        connection.register("records", records.append_column("place", pa.array(np.arange(len(records)))))
        connection.register("known", pa.table({"digest": digests}))
        found = connection.execute("select place from records where sha256(record) in (select digest from known)")
        mask[found.fetchnumpy()["place"]] = True
    return mask


def json_path(path: str) -> str:
    """A dotted path as DuckDB takes it, every part by its exact name."""
    parts = (part.replace("\\", "\\\\").replace('"', '\\"') for part in path.split("."))
    return "$" + "".join(f'."{part}"' for part in parts)


def lagged(cursor: str, lag: float) -> str:
    """The cursor `lag` earlier, in its own unit or in seconds where it is a time, spelt as it was.

    Raises ConfigError when it is neither a number nor a time.
    """
    if not lag:
        return cursor
    try:
        return _lagged_number(cursor.strip(), lag)
    except InvalidOperation:
        pass
    match = _TIME.fullmatch(cursor.strip())
    try:
        if match:
            return _lagged_time(match, timedelta(seconds=lag))
        return (datetime.fromisoformat(cursor.strip()) - timedelta(seconds=lag)).isoformat()
    except (ValueError, OverflowError):
        raise ConfigError(
            f"cursor_lag cannot be taken from {cursor!r}, which is neither a number nor an ISO time",
            where="penstock.yml",
            fix="leave cursor_lag out, or choose another cursor_path",
        ) from None


def _lagged_number(cursor: str, lag: float) -> str:
    number = Decimal(cursor)
    if not number.is_finite():
        raise InvalidOperation
    earlier = number - Decimal(str(lag))
    if number == number.to_integral_value() and "." not in cursor:
        earlier = earlier.to_integral_value(rounding="ROUND_FLOOR")
    return f"{earlier:f}"


def _lagged_time(match: re.Match[str], lag: timedelta) -> str:
    day, clock = date.fromisoformat(match["date"]), match["clock"]
    if clock is None:
        # Half a day earlier is the day before: what is asked for twice is skipped, what is not is lost.
        moment = datetime(day.year, day.month, day.day) - lag
        return moment.date().isoformat()
    moment = datetime.fromisoformat(f"{match['date']}T{clock}") - lag
    text = f"{moment:%H:%M:%S}"[: len(clock)] if not match["fraction"] else f"{moment:%H:%M:%S.%f}"
    if match["fraction"]:
        text = text[: len(clock)].ljust(len(clock), "0")
    return f"{moment.date().isoformat()}{match['mark']}{text}{match['zone'] or ''}"
