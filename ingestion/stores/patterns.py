"""Patterns of paths, the same for local and remote files, and names that anyone can print."""

import fnmatch
import re
from collections.abc import Sequence

# Control characters, marks that turn the direction of text, and the bytes that are no UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def has_wildcard(text: str) -> bool:
    """Whether `text` holds a character of patterns."""
    return any(character in text for character in "*?[")


def fits(name: str, part: str) -> bool:
    """Whether a name fits one part of a pattern; a hidden one only where the part begins with a dot itself."""
    return fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))


def matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path fits a pattern, both in their parts; ** stands for any folders, or for any path at the end."""
    if not parts:
        return not names
    if parts[0] != "**":
        return bool(names) and fits(names[0], parts[0]) and matches(names[1:], parts[1:])
    return matches(names, parts[1:]) or (bool(names) and fits(names[0], "*") and matches(names[1:], parts))


def printable(name: str) -> str:
    """`name` as text that any table and terminal takes: what cannot be printed is written as an escape."""
    return _UNPRINTABLE.sub(lambda found: _escape(found.group()), name)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
