"""Column names of raw: the header's names in snake_case, each once."""

import re
from collections.abc import Sequence


def snake_case(heading: str) -> str:
    """`heading` as raw names it: `joinDate` -> `join_date`, `Annual Salary` -> `annual_salary`, `ID` -> `id`."""
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", heading.strip())
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    name = re.sub(r"\W+", "_", name).strip("_").lower()
    name = re.sub(r"__+", "_", name)
    return f"column_{name}" if name[:1].isdigit() else name


def raw_columns(header: Sequence[str]) -> list[str]:
    """The raw column of each heading; a heading without a name is `column_<n>`, one met before gets `_2`, `_3`."""
    taken: set[str] = set()
    columns = []
    for number, heading in enumerate(header, start=1):
        base = snake_case(heading) or f"column_{number}"
        name, repeat = base, 1
        while name in taken:
            repeat += 1
            name = f"{base}_{repeat}"
        taken.add(name)
        columns.append(name)
    return columns
