"""How commands show what they found: lines as they are, tables without a frame, JSON for machines."""

import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Column, Table

Found = TypeVar("Found")


def say(console: Console, text: str) -> None:
    """Print a text as it is, in lines as long as they are, so that it can be copied and searched."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def plain_table(left: Sequence[str | Column], right: Sequence[str] = (), after: Sequence[str | Column] = ()) -> Table:
    """A table without a frame: texts, figures that stand to the right, texts again.

    A name or a figure that is broken over lines cannot be copied, so none is; a column that may be is given as such.
    """
    texts, texts_after = ([_text(head) for head in heads] for heads in (left, after))
    figures = [Column(head, justify="right", no_wrap=True) for head in right]
    return Table(*texts, *figures, *texts_after, box=None, pad_edge=False)


def show(found: Found, printed: Callable[[Found, Console], None], console: Console, *, as_json: bool) -> None:
    """Print what was found as JSON, or with `printed`."""
    if as_json:
        print(json.dumps(found, indent=2, default=str))  # noqa: T201 - for machines
    else:
        printed(found, console)


def _text(head: str | Column) -> Column:
    return head if isinstance(head, Column) else Column(head, no_wrap=True)
