"""Entries put into YAML files that people wrote: as text, so that every comment and the order stay as they are."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from foundation.errors import ConfigError

WIDTH = 120
_PLAIN = re.compile(r"[A-Za-z_./][\w./*-]*( [\w./*-]+)*")


def scalar(value: Any) -> str:
    """A value as YAML spells it on one line; a text in quotes unless it can be taken for nothing else."""
    if isinstance(value, str):
        is_plain = value.isascii() and _PLAIN.fullmatch(value) and yaml.safe_load(value) == value
        return value if is_plain else json.dumps(value, ensure_ascii=not value.isprintable())
    return json.dumps(value)


def listed(values: Sequence[str], indent: int, before: str = "") -> str:
    """`[a, b]` behind `before`, over more lines where one is too short for it."""
    spelt = [scalar(value) for value in values]
    line = f"{before}[{', '.join(spelt)}]"
    if indent + len(line) <= WIDTH:
        return line
    return f"{before}\n" + " " * (indent + 2) + "[" + _wrapped(spelt, indent + 3) + "]"


def _wrapped(parts: Sequence[str], indent: int) -> str:
    lines = [""]
    for number, part in enumerate(parts):
        piece = part + ("," if number + 1 < len(parts) else "")
        if lines[-1] and indent + len(lines[-1]) + 1 + len(piece) > WIDTH:
            lines.append(piece)
        else:
            lines[-1] += f" {piece}" if lines[-1] else piece
    return ("\n" + " " * indent).join(lines)


def entry_lines(name: str, entry: Mapping[str, Any]) -> list[str]:
    """An entry of penstock.yml, its lines from column 0 on."""
    lines = [f"{name}:"]
    for key, value in entry.items():
        if isinstance(value, dict):
            inner = ", ".join(f"{one}: {scalar(two)}" for one, two in value.items())
            lines.append(f"  {key}: {{ {inner} }}")
        elif isinstance(value, list):
            lines += listed(value, 4, f"  {key}: ").replace(" \n", "\n").split("\n")
        else:
            lines.append(f"  {key}: {scalar(value)}")
    return lines


def add_entry(text: str, section: str, name: str, entry: Mapping[str, Any], where: str) -> str:
    """`text` with one more entry at the end of a section. Raises ConfigError where it is not written in lines."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    lines = entry_lines(name, entry)
    before = yaml.safe_load(text) or {}
    found = _member(root, section)
    if found is None:
        changed = text + ("" if text.endswith("\n") or not text else "\n") + _block([f"{section}:"], lines, 2)
    else:
        key, node = found
        if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
            changed = _behind(text, node, lines, node.value[0][0].start_mark.column)
        elif before[section] in (None, {}):
            changed = _in_place(text, key, node, lines)
        else:
            raise ConfigError(
                f"{section} is written on one line", where=where, fix="write its entries one below another"
            )
    after = {**before, section: {**(before.get(section) or {}), name: entry}}
    return _proven(changed, after, where, f"{section}.{name}")


def add_table(text: str, lines: Sequence[str], where: str) -> str:
    """`text`, a file of sources of dbt, with one more table of `raw` at its end, given as a list item from column 0."""
    problem = ConfigError("the tables of raw are not found in it", where=where, fix="add the table by hand, or mend it")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    before = yaml.safe_load(text)
    sources = _member(root, "sources")
    if sources is None or not isinstance(sources[1], yaml.SequenceNode):
        raise problem
    for number, source in enumerate(sources[1].value):
        tables = _member(source, "tables")
        if before["sources"][number].get("name") != "raw" or tables is None:
            continue
        node = tables[1]
        if not isinstance(node, yaml.SequenceNode) or node.flow_style or not node.value:
            raise problem
        dash = text.splitlines()[node.value[0].start_mark.line].index("-")
        changed = _behind(text, node, ["", *lines], dash)
        before["sources"][number]["tables"].append(yaml.safe_load("\n".join(lines))[0])
        return _proven(changed, before, where, "the table")
    raise problem


def _member(node: Any, name: str) -> tuple[Any, Any] | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next(((key, value) for key, value in pairs if key.value == name), None)


def _behind(text: str, node: Any, lines: Sequence[str], indent: int) -> str:
    """`text` with lines behind a block, before the blank lines and comments that belong to what follows it."""
    rows = text.splitlines(keepends=True)
    # A block ends where the next thing begins, or with a text whose last line has no end.
    stop = len(rows) if node.end_mark.index >= len(text) else node.end_mark.line
    while stop and (not rows[stop - 1].strip() or _is_comment_before(rows[stop - 1], indent)):
        stop -= 1
    if rows[stop - 1][-1:] != "\n":
        rows[stop - 1] += "\n"
    return "".join([*rows[:stop], _block([], lines, indent), *rows[stop:]])


def _is_comment_before(row: str, indent: int) -> bool:
    return row.lstrip().startswith("#") and len(row) - len(row.lstrip()) < indent


def _in_place(text: str, key: Any, node: Any, lines: Sequence[str]) -> str:
    """`text` with lines under a key that holds nothing or {}."""
    rows = text.splitlines(keepends=True)
    row = rows[key.start_mark.line].rstrip("\r\n")
    comment = re.search(r"\s#.*$", row)
    head = row[: key.end_mark.column] + ":" + (comment.group() if comment else "")
    stop = node.end_mark.line if isinstance(node, yaml.MappingNode) else key.start_mark.line
    return "".join([*rows[: key.start_mark.line], _block([head], lines, 2), *rows[stop + 1 :]])


def _block(head: Sequence[str], lines: Sequence[str], indent: int) -> str:
    return "".join(f"{line}\n" for line in [*head, *(f"{' ' * indent}{line}" if line else "" for line in lines)])


def _proven(changed: str, after: Any, where: str, what: str) -> str:
    """What was written, once it reads as what was there and the new entry, and nothing else."""
    try:
        is_right = yaml.safe_load(changed) == after
    except yaml.YAMLError:
        is_right = False
    if not is_right:
        raise ConfigError(
            f"{what} cannot be added to the file as it is written", where=where, fix="write it in block style"
        )
    return changed
