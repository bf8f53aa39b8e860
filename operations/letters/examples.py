"""Dead letters by source and reason, each with one example: why and where, never what the record holds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from foundation.queries import fetch_dicts, read_tables
from foundation.warehouse import Warehouse, open_warehouse

MOST_TOLD = 10
LONGEST_MESSAGE = 300
# The first letter of a group, for a query over raw.dead_letters.
EXAMPLE = """
    arg_min(
        {'message': message, 'location': location, 'line': line, 'page': page},
        (coalesce(location, ''), coalesce(page, 0), coalesce(line, 0), coalesce(byte_offset, 0))
    )
"""
# A message ends in a quoted piece of what was read where that is no record at all: an error page, a header.
_QUOTED = re.compile(r"((?:: |; it is ))(['\"]).*\2", re.DOTALL)


def read_dead_letters(warehouse: Warehouse, run_id: str) -> list[dict[str, Any]]:
    """Those of one run, most first: source, reason, records, and message, location, line and page of the first."""
    with open_warehouse(warehouse) as connection:
        if not read_tables(connection).has("raw.dead_letters"):
            return []
        found = fetch_dicts(
            connection,
            f"""
            select source, reason, count(distinct dead_letter_id) as records, {EXAMPLE} as example
            from raw.dead_letters where run_id = ? group by source, reason order by records desc, source, reason
            """,
            [run_id],
        )
    for group in found:
        group |= shown(group.pop("example"))
    return found


def shown(example: Mapping[str, Any]) -> dict[str, Any]:
    """The example with a message that is one line and shows nothing of the record."""
    message = printable(_QUOTED.sub(r"\1(not shown)", example["message"] or ""))
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + " ..."
    return {**example, "message": message}


def place(letter: Mapping[str, Any]) -> str:
    """Where a letter was found: `in/a.csv line 3`, or `https://api/people page 2`."""
    parts = [printable(letter["location"] or "")]
    parts += [f"{name} {letter[name]}" for name in ("page", "line") if letter[name] is not None]
    return " ".join(filter(None, parts))


def told(letters: Sequence[Mapping[str, Any]], run_id: str) -> list[str]:
    """A line for each source and reason, and one that tells how to see them one by one."""
    lines = [
        f"{letter['source']}: {letter['records']:,} {letter['reason']}, first {place(letter)}: {letter['message']}"
        for letter in letters[:MOST_TOLD]
    ]
    if (rest := len(letters) - MOST_TOLD) > 0:
        lines.append(f"and {rest} more kind{'s' if rest > 1 else ''} of dead letters")
    return [*lines, f"dead letters: penstock deadletters list --run {run_id}"] if letters else []


def printable(text: str) -> str:
    """`text` on one line, without what a terminal would take as a command."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
