"""Parcels of JSON records: rows and dead letters of a chunk of lines, or of a stretch of a document."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pyarrow as pa

from foundation.errors import SourceError
from ingestion.parcels import LONGEST_RECORD_KEPT, Batch, DeadLetter, Parcel, ParcelDraft
from ingestion.readers.framing import CHUNK_BYTES, RETURN, Chunk, Lines
from ingestion.readers.json_files.bits import Context, Places, Scan, scan
from ingestion.readers.json_files.framing import BROKEN_SEAL, BYTE_ORDER_MARK, Break, Overlong, Stretch
from ingestion.readers.json_files.judge import LENIENT, TOO_LARGE, Fault, Verdicts, is_sound, judge
from ingestion.readers.json_files.letters import add_letters
from ingestion.readers.json_files.records import Records
from ingestion.readers.json_files.shapes import Shapes
from ingestion.stores import StoredFile


@dataclass(frozen=True)
class ParcelMaker:
    """Makes parcels of the pieces of one file; each call is apart from the others, so that threads can share it.

    `database` is the empty DuckDB whose parser they use.
    """

    file: StoredFile
    source: str
    drift_policy: str
    batch: Batch
    expected: Mapping[str, Sequence[str]]
    database: duckdb.DuckDBPyConnection

    def lines(self, chunk: Chunk) -> Parcel:
        """The parcel of a chunk of lines."""
        draft = self._draft(chunk.prefix_hash)
        if chunk.is_overlong:
            return self._overlong(
                draft, chunk.data, chunk.offset, chunk.end, chunk.first_line, start_bytes=chunk.offset
            )
        is_marked = chunk.offset == 0 and chunk.data.startswith(BYTE_ORDER_MARK)
        mark = len(BYTE_ORDER_MARK) if is_marked else 0
        lines = Lines(chunk.data[mark:])
        ends = lines.ends - (lines.codes[lines.ends - 1] == RETURN) if len(lines) else lines.ends
        numbers = chunk.first_line + np.arange(len(lines))
        keep = np.flatnonzero(~lines.blank())
        records = Records(lines.data, lines.starts, ends, numbers)[keep]
        with self._connect() as connection:
            verdicts = judge(connection, records)
            good = verdicts.good()
            text = records[good]
            if len(good) < len(records):
                # What is no JSON may open a string or bracket, which a scan would take on to the next line.
                text = _apart(lines, keep[good], text)
            fields = self._fill(connection, draft, records, verdicts, text, scan(text.data, Context(), 0))
            parcel = draft.seal(
                columns=["record"],
                skipped=len(lines) - len(records),
                size_bytes=chunk.end,
                start_bytes=chunk.offset,
                position_bytes=chunk.end,
                lines=chunk.first_line - 1 + len(lines),
            )
            parcel = add_letters(connection, draft, parcel, records, verdicts, chunk.offset + mark)
        return _with_fields(parcel, fields)

    def items(self, piece: Stretch | Overlong | Break) -> tuple[Parcel | None, Break | None]:
        """The parcel of a piece of a document, and where the document breaks, if it does."""
        if isinstance(piece, Break):
            return None, piece
        if isinstance(piece, Overlong):
            draft = self._draft(piece.prefix_hash)
            return self._overlong(
                draft, piece.head, piece.offset, piece.end_bytes, piece.item, start_bytes=piece.start_bytes
            ), None
        numbers = piece.first_item + np.arange(len(piece.starts))
        records = Records(piece.data, piece.starts, piece.ends, numbers)
        with self._connect() as connection:
            verdicts = judge(connection, records)
            damage = _damage(piece, records, verdicts)
            if damage is not None:
                count = damage.item - piece.first_item
                if count == 0:
                    return None, damage
                piece, records = _cut(piece, count), records[:count]
                verdicts.cut(count)
            draft = self._draft(piece.prefix_hash)
            fields = self._fill(connection, draft, records, verdicts, records[verdicts.good()], piece.found)
            parcel = draft.seal(
                columns=["record"],
                size_bytes=piece.end_bytes,
                start_bytes=piece.start_bytes,
                position_bytes=piece.end_bytes,
                lines=piece.first_item - 1 + len(records),
            )
            parcel = add_letters(connection, draft, parcel, records, verdicts, piece.offset)
        return _with_fields(parcel, fields), damage

    def rest(self, damage: Break) -> Parcel:
        """The rest of a broken document as one dead letter. Its hash covers the whole file, and more."""
        digest, size, head = hashlib.sha256(), 0, b""
        try:
            with self.file.open() as stream:
                while block := stream.read(CHUNK_BYTES):
                    digest.update(block)
                    wanted = damage.offset + len(head) - size
                    if len(head) < LONGEST_RECORD_KEPT and 0 <= wanted < len(block):
                        head += block[wanted : wanted + LONGEST_RECORD_KEPT - len(head)]
                    size += len(block)
        except (OSError, EOFError) as error:
            raise self.file.unreadable(error) from error
        digest.update(BROKEN_SEAL)
        draft = self._draft(digest.hexdigest())
        message = f"the document cannot be read from here on: {damage.message}"
        letter = DeadLetter("broken_document", message, head, damage.item, damage.offset, size - damage.offset)
        draft.letters.append(letter)
        return draft.seal(
            columns=["record"],
            size_bytes=size,
            start_bytes=damage.start_bytes,
            position_bytes=size,
            lines=damage.item,
        )

    def _connect(self) -> duckdb.DuckDBPyConnection:
        connection = self.database.cursor()
        connection.execute("set enable_progress_bar = false")  # it would write over ours
        return connection

    def _draft(self, content_hash: str) -> ParcelDraft:
        return ParcelDraft(self.batch, self.source, "json", self.file.location, content_hash)

    def _overlong(
        self, draft: ParcelDraft, head: bytes, offset: int, end: int, number: int, *, start_bytes: int
    ) -> Parcel:
        kept = head[:LONGEST_RECORD_KEPT]
        draft.letters.append(DeadLetter(*TOO_LARGE, kept, number, offset, end - offset))
        return draft.seal(columns=["record"], size_bytes=end, start_bytes=start_bytes, position_bytes=end, lines=number)

    def _fill(
        self,
        connection: duckdb.DuckDBPyConnection,
        draft: ParcelDraft,
        records: Records,
        verdicts: Verdicts,
        scanned: Records,
        found: Scan,
    ) -> str | None:
        """Put the rows of the good records into `draft` and tell their fields; `verdicts` is then final.

        `scanned` are the records good so far, in the text of which `found` is the scan.
        """
        if not len(scanned):
            return None
        candidates = verdicts.good()
        verdicts.mark(candidates[scanned.owners(found.lenient)[0]], LENIENT)
        shapes = Shapes(connection, scanned, found)
        shapes.choose(np.flatnonzero(verdicts.codes[candidates] == 0))
        if self.expected and self.drift_policy != "evolve":
            for message, drifted in shapes.drift(self.expected):
                if self.drift_policy == "freeze":
                    raise SourceError(f"{self.source}: {message}", where=draft.location, fix=_THAW)
                verdicts.mark(candidates[drifted], Fault("schema_drift", message))
            shapes.choose(np.flatnonzero(verdicts.codes[candidates] == 0))
        good = verdicts.good()
        if not good.size:
            return None
        draft.add_rows(pa.table({"record": records[good].array()}), records[good].numbers)
        return shapes.fields()


_THAW = "if the change is right, set schema_drift: evolve for one run; nothing of this part of the file was loaded"


def open_database() -> duckdb.DuckDBPyConnection:
    """An empty DuckDB in memory. It has no threads of its own: those that make parcels side by side do its work."""
    return duckdb.connect(config={"threads": 1})


def _apart(lines: Lines, chosen: Places, records: Records) -> Records:
    """The records, which are these lines, in a text of their own without the lines between them."""
    kept = np.zeros(len(lines), bool)
    kept[chosen] = True
    length = (lines.ends - lines.starts)[chosen] + 1
    starts = np.cumsum(length) - length
    return Records(lines.kept(kept), starts, starts + records.length(), records.numbers)


def _damage(piece: Stretch, records: Records, verdicts: Verdicts) -> Break | None:
    """Where the first record is that is so damaged that the ones after it may be none."""
    for index in verdicts.bad().tolist():
        if verdicts.reason(index) in ("invalid_json", "not_utf8") and not is_sound(records.text(index)):
            before = piece.offset + int(piece.ends[index - 1]) if index else piece.start_bytes
            message = "a quote or bracket is missing, or one too many"
            return Break(piece.offset + int(piece.starts[index]), piece.first_item + index, before, message)
    return None


def _cut(piece: Stretch, count: int) -> Stretch:
    """The first items of a stretch."""
    digest = piece.digest.copy()
    digest.update(memoryview(piece.data)[: piece.ends[count - 1]])
    return replace(piece, starts=piece.starts[:count], ends=piece.ends[:count], prefix_hash=digest.hexdigest())


def _with_fields(parcel: Parcel, fields: str | None) -> Parcel:
    return replace(parcel, loads=[replace(parcel.loads[0], fields=fields)])
