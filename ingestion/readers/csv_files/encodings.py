"""Files of text in any encoding as UTF-8 with newlines, which is all that stands behind this.

A file that is UTF-8 already passes through untouched. Any other is recoded as it streams: its hash, offsets and
lengths are then those of the UTF-8 text. Bytes that are no text in its encoding become a NUL and their hex digits, so
that their line is set aside with the others that nobody can read.
"""

import codecs
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.stores.streams import RewindableStream

HEAD_BYTES = 1 << 20
BYTE_ORDER_MARK = codecs.BOM_UTF8
_BLOCK = 1 << 20
# The marks of UTF-32 first: that of UTF-16 is the beginning of one of them.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Which bytes of every four are NUL in text that is mostly ASCII and begins with an ASCII letter.
_NUL_PATTERNS = {
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}
_UNDECODABLE = re.compile(rb"\0((?:\\x[0-9a-f]{2,8})+)")


@dataclass(frozen=True)
class Text:
    """A file's text as a stream of UTF-8, its first 1 MB, and what had to be found out about it."""

    stream: io.BufferedIOBase
    head: bytes
    encoding: str
    found: str | None

    def whole_lines(self) -> bytes:
        """The lines of the head; empty where its first one goes on beyond it."""
        return self.head if len(self.head) < HEAD_BYTES else self.head[: self.head.rfind(b"\n") + 1]


def open_text(stream: io.BufferedIOBase, declared: str | None) -> Text:
    """The text of `stream`, which stands at its start, in the encoding that is declared, marked or plain to see."""
    encoding, found = _encoding(stream.read(4096), declared)
    stream.seek(0)
    text: io.BufferedIOBase = stream if encoding == "utf-8" else _recoded(stream, encoding)
    head = text.read(HEAD_BYTES)
    text.seek(0)
    if b"\r" in head[:-1] and b"\n" not in head:
        found = ", ".join(filter(None, (found, "lines that end in carriage returns")))
        stream.seek(0)
        text = _recoded(stream, encoding, only_returns=True)
        head = head.replace(b"\r", b"\n")
    return Text(text, head, encoding, found)


def _encoding(start: bytes, declared: str | None) -> tuple[str, str | None]:
    """The encoding as Python names it, and how it was found where it is neither declared nor UTF-8."""
    named = codecs.lookup(declared).name if declared else None
    marked = next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), None)
    if marked is not None:
        # A mark is proof, whatever is declared for the other files of the source.
        told = marked != "utf-8" if named is None else not named.startswith(marked)
        return marked, f"{marked} by its byte order mark" if told else None
    if named is not None:
        doubt = f"{named} as declared, though its text is UTF-8" if _is_plainly_utf8(start, named) else None
        return ("utf-8" if named == "utf-8-sig" else named), doubt
    codes = np.frombuffer(start[: len(start) // 4 * 4], np.uint8).reshape(-1, 4)
    for pattern, encoding in _NUL_PATTERNS.items() if len(codes) and b"\0" in start[:4] else ():
        nuls = (codes == 0).mean(axis=0)
        if all(share > 0.3 if is_nul else share < 0.02 for share, is_nul in zip(nuls, pattern, strict=True)):
            return encoding, f"{encoding} by its NUL bytes"
    return "utf-8", None


def _is_plainly_utf8(start: bytes, named: str) -> bool:
    """Whether letters beyond ASCII stand there in UTF-8, which text of another encoding would hardly be by chance."""
    try:
        return not (named.startswith("utf") or start.isascii()) and bool(
            codecs.getincrementaldecoder("utf-8")().decode(start)
        )
    except UnicodeDecodeError:
        return False


def _recoded(stream: io.BufferedIOBase, encoding: str, *, only_returns: bool = False) -> io.BufferedIOBase:
    return io.BufferedReader(_Recoder(stream, encoding, only_returns), _BLOCK)


class _Recoder(RewindableStream):
    """`stream` as UTF-8, block by block."""

    def __init__(self, stream: io.BufferedIOBase, encoding: str, only_returns: bool) -> None:
        self._stream, self._encoding, self._only_returns = stream, encoding, only_returns
        self._start()

    def _start(self) -> None:
        self._decode: Callable[[bytes, bool], str] | None = None
        if self._encoding != "utf-8":
            self._decode = codecs.getincrementaldecoder(self._encoding)(_UNDECODABLE_HANDLER).decode
        self._pending = memoryview(b"")
        self._ended = False

    def _rewind(self) -> None:
        self._stream.seek(0)
        self._start()

    def readinto(self, buffer: Any) -> int:
        while not self._pending and not self._ended:
            block = self._stream.read(_BLOCK)
            self._ended = not block
            self._pending = memoryview(self._convert(block))
        count = min(len(buffer), len(self._pending))
        buffer[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        self._position += count
        return count

    def _convert(self, block: bytes) -> bytes:
        if self._decode is not None:
            block = self._decode(block, not block).encode("utf-8", _UNDECODABLE_HANDLER)
        return block.replace(b"\r", b"\n") if self._only_returns else block


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError | UnicodeEncodeError):
        raise error
    bad = error.object[error.start : error.end]
    codes = bad if isinstance(bad, bytes) else [ord(letter) for letter in bad]
    return "\0" + "".join(f"\\x{code:02x}" for code in codes), error.end


_UNDECODABLE_HANDLER = "penstock.undecodable"
codecs.register_error(_UNDECODABLE_HANDLER, _mark_undecodable)


def explain_undecodable(letters: pa.Table | None, encoding: str) -> pa.Table | None:
    """Dead letters that say in which encoding their lines are no text, or, of UTF-8, in which they would be."""
    if letters is None:
        return None
    concerned = pc.equal(letters["reason"], "not_utf8")
    if not pc.any(concerned).as_py():
        return letters
    if encoding == "utf-8":
        if not _is_western(letters.filter(concerned)["record_bytes"]):
            return letters
        hint = "the line is text in cp1252: if the whole file is, set encoding: cp1252"
        messages = pc.binary_join_element_wise(letters["message"], hint, "; ")
    else:
        records, told = letters["record_bytes"].to_pylist(), letters["message"].to_pylist()
        messages = pa.array(map(_undecodable_message, records, told, [encoding] * len(told)), pa.string())
    place = letters.schema.get_field_index("message")
    return letters.set_column(place, letters.schema.field(place), pc.if_else(concerned, messages, letters["message"]))


def _undecodable_message(record: bytes | None, message: str, encoding: str) -> str:
    found = _UNDECODABLE.search(record or b"")
    if found is None:
        return message
    return f"{found[1].decode()} is no text in {encoding}; mend the line, or encoding in penstock.yml"


def _is_western(records: pa.ChunkedArray) -> bool:
    """Whether most of these lines would be text in Windows' western code page: no unused code, no control character."""
    lines = [line for line in records.slice(0, 1000).to_pylist() if line is not None]
    texts = sum(_reads_as_western(line) for line in lines)
    return texts * 2 > len(lines)


def _reads_as_western(line: bytes) -> bool:
    try:
        text = line.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)
