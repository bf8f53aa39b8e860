"""Column names of raw: the header's names in snake_case, each once."""

import hashlib
import re
from collections.abc import Sequence

# The longest name that Postgres keeps, in bytes of UTF-8.
LONGEST_NAME = 63


def snake_case(heading: str) -> str:
    """`heading` as raw names it: `joinDate` -> `join_date`, `Annual Salary` -> `annual_salary`, `ID` -> `id`.

    Never with an underscore in front, as the lineage columns have it. One that is too long is cut and ends in a hash
    of all of it, so that it is named alike in every file.
    """
    # Lookarounds, because groups that repeat take time by the square of a long heading.
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", heading.strip())
    name = re.sub(r"\W+", "_", name).strip("_").lower()
    name = re.sub(r"__+", "_", name)
    name = f"column_{name}" if name[:1].isdigit() else name
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return _cut(name, "_" + hashlib.sha256(name.encode()).hexdigest()[:8])


def raw_columns(header: Sequence[str]) -> list[str]:
    """The raw column of each heading; a heading without a name is `column_<n>`, one met before gets `_2`, `_3`."""
    repeats: dict[str, int] = {}
    columns = []
    for number, heading in enumerate(header, start=1):
        base = snake_case(heading) or f"column_{number}"
        name = base
        while name in repeats:
            repeats[base] += 1
            name = _cut(base, f"_{repeats[base]}")
        repeats.setdefault(base, 1)
        repeats.setdefault(name, 1)
        columns.append(name)
    return columns


def _cut(name: str, ending: str) -> str:
    """`name` and its ending in as many bytes as a name may have, whole letters only."""
    return name.encode()[: LONGEST_NAME - len(ending)].decode(errors="ignore") + ending
