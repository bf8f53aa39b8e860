"""How a file of delimited text is written: delimiter, quoting and header, as penstock.yml says or its head shows.

The judge is our own. Over the cases of tests/unit/test_csv_dialect.py DuckDB's sniffer, that of the standard library
and CleverCSV switch quoting off for one stray quote, take years for data, or lose the header behind a comment.
"""

import csv
import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from foundation.sources import CsvSource
from ingestion.names import raw_columns
from ingestion.readers.csv_files.encodings import BYTE_ORDER_MARK

# Lines that are looked at, and those that one record may take, before its quote counts as a stray one.
SAMPLE_LINES, SAMPLE_CELLS, RECORD_LINES = 1000, 5000, 50
# The header is looked for in so many lines, when the columns are declared.
HEADER_LINES = 20
MOST_COLUMNS = 16_384
USUAL, UNUSUAL = (",", ";", "\t", "|", "\x01"), (":", "^", "~")
# Shares of lines with the same number of fields: that of an unusual delimiter, and the least that proves anything.
CLEAR, FAINT = 0.9, 0.25
# So many lines that quoting breaks are told; a few are stray quotes.
MANY_BROKEN = 3


class NoTableError(Exception):
    """The head of a file shows no table: why."""


@dataclass(frozen=True)
class Dialect:
    """How a file is written, and what of that was found out, where it is neither declared nor usual.

    `columns` are those of raw. `header_bytes` stand before the first record: byte order mark, preamble, header.
    """

    delimiter: str
    quote: str
    escape: str
    header: bool
    headings: tuple[str, ...]
    columns: tuple[str, ...]
    header_bytes: int
    found: tuple[str, ...] = ()

    def to_json(self) -> str:
        """What decides on the rows, however it was found. Columns may be thousands, so a hash stands for them."""
        columns = hashlib.sha256(json.dumps(self.columns).encode()).hexdigest()[:16]
        parts = {"delimiter": self.delimiter, "quote": self.quote, "escape": self.escape, "header": self.header}
        return json.dumps({**parts, "columns": columns, "start": self.header_bytes})


def find_dialect(head: bytes, source: CsvSource) -> Dialect:
    """The dialect of a file that begins with the whole lines `head`. Raises NoTableError."""
    mark = len(BYTE_ORDER_MARK) if head.startswith(BYTE_ORDER_MARK) else 0
    # A byte that is no UTF-8 stays visible in the name of its column.
    raw_lines = io.BytesIO(head[mark:]).readlines()
    lines = [line.decode(errors="backslashreplace").replace("\0", "") for line in raw_lines[:SAMPLE_LINES]]
    found: list[str] = []
    top, delimiter = _preamble(lines, source, found)
    if top == len(lines):
        raise NoTableError("it holds nothing but blank or comment lines")
    _refuse_other_formats(head, lines[top])
    best, top = _judge_delimiter(lines, top, source, delimiter)
    if delimiter is None and best.delimiter != ",":
        found.append(f"delimiter {best.delimiter!r} ({best.evidence})")
    best = _judge_escape(best, source)
    if source.quote is None and best.quote != '"':
        found.append(f"quote {best.quote!r}")
    if source.escape is None and best.escape != best.quote:
        found.append(f"escape {best.escape!r}")
    if source.quote is None and best.misfits >= MANY_BROKEN and not replace(best, quote="", escape="").misfits:
        found.append(f"{best.quote} as its quote, though {best.misfits} lines fit without only: quote: '' reads them")
    if best.is_unclosed:
        found.append("a header whose quote nothing closes")
    dialect = _with_header(best, source)
    if not dialect.header and source.header is None:
        found.append("no header, columns by position")
    if top and any(line.strip() for line in lines[:top]):
        found.insert(0, f"{top} line{'s' * (top > 1)} before the table left out, from {lines[0].strip()[:60]!r}")
    table_start = mark + sum(map(len, raw_lines[:top]))
    header_bytes = sum(map(len, raw_lines[top : top + best.header_lines])) if dialect.header else 0
    return replace(dialect, header_bytes=table_start + header_bytes, found=tuple(found))


@dataclass(frozen=True)
class _Trial:
    """The lines of a head as one dialect reads them."""

    lines: Sequence[str]
    delimiter: str
    quote: str
    escape: str
    evidence: str = "fields agree over the lines"

    @cached_property
    def _parsed(self) -> tuple[list[list[str]], int, int, bool]:
        """The records, the lines that broke, the lines of the first record, and whether its quoting is broken."""
        records: list[list[str]] = []
        broken, start, header_lines, unclosed = 0, 0, 1, False
        while start < len(self.lines):
            reader = _Reader(self, start)
            try:
                for record in reader:
                    if start == 0 and not records:
                        header_lines = reader.stop
                    records.append(record)
                break
            except csv.Error:
                # The line on which the record began is to blame; those after it may be good.
                first = reader.begun
                if first == 0:
                    unclosed = self.quote in self.lines[0]
                    records.append(self._fields_of(self.lines[0]))
                else:
                    broken += 1
                start = first + 1
        return records, broken, header_lines, unclosed

    def _fields_of(self, line: str) -> list[str]:
        """A line's fields without regard to quotes."""
        return line.rstrip("\r\n").split(self.delimiter)

    @cached_property
    def stand_in(self) -> str:
        """What stands for a delimiter of several characters, since csv takes one only: a letter that is in no line."""
        if len(self.delimiter) == 1:
            return ""
        return next(
            letter for letter in map(chr, range(0xE000, 0xF8FF)) if not any(letter in line for line in self.lines)
        )

    @property
    def records(self) -> list[list[str]]:
        return [record for record in self._parsed[0] if record]

    @property
    def header_lines(self) -> int:
        return self._parsed[2]

    @property
    def is_unclosed(self) -> bool:
        return self._parsed[3]

    @cached_property
    def width(self) -> int:
        """The number of fields that most records have."""
        widths = Counter(map(len, self.records[1:] or self.records))
        return max(widths, key=lambda width: (widths[width], width))

    @cached_property
    def agreement(self) -> float:
        """The share of lines with that number of fields; halved where the first one has another. 0 to 1."""
        fitting = sum(len(record) == self.width for record in self.records)
        share = fitting / (len(self.records) + self._parsed[1])
        return share if len(self.records[0]) == self.width else share / 2

    @cached_property
    def misfits(self) -> int:
        """Lines that break, and records with another number of fields than most."""
        return self._parsed[1] + self.is_unclosed + sum(len(record) != self.width for record in self.records)

    @cached_property
    def score(self) -> float:
        """How well this dialect explains the lines; 0 when it has no delimiter in the first of them."""
        if self.width < 2 or len(self.records[0]) < 2:
            return 0.0
        cells = list(itertools.islice(itertools.chain.from_iterable(self.records), SAMPLE_CELLS))
        return self.agreement * (0.1 + sum(map(self._worth, cells)) / len(cells))

    def _worth(self, cell: str) -> float:
        """A value that ends where it should is worth more than one that seems to hold further delimiters."""
        if _kind(cell) or not cell:
            return 1.0
        if cell != cell.strip() or (len(cell) < 1000 and any(other in cell for other in USUAL)):
            return 0.0
        return 0.9

    def quoted_fields(self) -> bool:
        """Whether quotes hold this dialect's table together, rather than being apostrophes."""
        plain = replace(self, quote="", escape="")
        if self.misfits < plain.misfits and self.width > 1:
            return True
        columns = zip(*(record for record in plain.records if len(record) == plain.width), strict=True)
        return any(_all_in_quotes(column, self.quote) for column in columns)


class _Reader:
    """The records from a line on, as csv reads them; `begun` and `stop` are the lines of the record at hand."""

    def __init__(self, trial: _Trial, start: int) -> None:
        self.begun = self.stop = start
        self._trial = trial
        self._stand_in = trial.stand_in
        escape = trial.escape if trial.quote and trial.escape != trial.quote else None
        self._rows = csv.reader(
            self._feed(),
            delimiter=self._stand_in or trial.delimiter,
            quotechar=trial.quote or None,
            quoting=csv.QUOTE_MINIMAL if trial.quote else csv.QUOTE_NONE,
            doublequote=escape is None,
            escapechar=escape,
            strict=True,
        )

    def _feed(self) -> Iterator[str]:
        while self.stop < len(self._trial.lines) and self.stop - self.begun < RECORD_LINES:
            line = self._trial.lines[self.stop]
            self.stop += 1
            yield line.replace(self._trial.delimiter, self._stand_in) if self._stand_in else line

    def __iter__(self) -> Iterator[list[str]]:
        for row in self._rows:
            yield [cell.replace(self._stand_in, self._trial.delimiter) for cell in row] if self._stand_in else row
            self.begun = self.stop


def _preamble(lines: Sequence[str], source: CsvSource, found: list[str]) -> tuple[int, str | None]:
    """How many lines stand before the table, and the delimiter where it is declared, by the file or penstock.yml."""
    top, delimiter = 0, source.delimiter
    for line in lines:
        if match := re.fullmatch(r"sep=([^\w'\"])", line.strip("\r\n"), re.IGNORECASE):
            if delimiter is None:
                delimiter = match[1]
                found.append(f"delimiter {delimiter!r} (its sep= line)")
        elif not _is_blank(line) and not _is_comment(line, source):
            break
        top += 1
    comments = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), lines[top:]))
    if top + comments < len(lines):
        top += comments - _heads_the_rest(lines[top:], comments)
    top += sum(1 for _ in itertools.takewhile(_is_blank, lines[top:]))
    return top, delimiter


def _is_blank(line: str) -> bool:
    return not line.strip(" \r\n")


def _is_comment(line: str, source: CsvSource) -> bool:
    return line.startswith("# ") and not any(_hits(line, delimiter, source) for delimiter in USUAL)


def _heads_the_rest(lines: Sequence[str], comments: int) -> bool:
    """Whether the last line that begins with # is made as the lines after it: a header that begins with #."""
    last, following = lines[max(comments - 1, 0)], lines[comments : comments + 5]
    return comments > 0 and any(
        delimiter in last and all(line.count(delimiter) == last.count(delimiter) for line in following if line.strip())
        for delimiter in USUAL
    )


_FORMATS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF-": "a PDF document",
    b"PAR1\x15": "a Parquet file",
    b"SQLite format": "a SQLite database",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"7z\xbc\xaf": "packed with 7-Zip",
}


def _refuse_other_formats(head: bytes, first: str) -> None:
    for magic, name in _FORMATS.items():
        if head.startswith(magic):
            raise NoTableError(f"the file is {name}, not CSV")
    if first.lstrip().lower().startswith(("<!", "<html", "<?xml")):
        raise NoTableError("the file is a web page, not CSV")


def _judge_delimiter(lines: Sequence[str], top: int, source: CsvSource, known: str | None) -> tuple[_Trial, int]:
    """The best trial, with the delimiter that is `known` if one is, and the line its table begins on."""
    sample = lines[top:]
    text = "".join(sample)
    taken = (source.quote, source.escape)
    found = [delimiter for delimiter in (*USUAL, *UNUSUAL) if delimiter in text and delimiter not in taken]
    candidates, fallback = (found, ",") if known is None else ([known], known)
    if source.columns and source.header is not False:
        for number, line in enumerate(sample[:HEADER_LINES]):
            # A value may be spelt as a column is, so a line after the first must show more of them.
            least = 1 if number == 0 else max(2, (len(source.columns) + 1) // 2)
            hits = {one: _hits(line, one, source) for one in (fallback, *candidates)}
            if max(hits.values()) >= least:
                best_hits = [delimiter for delimiter in hits if hits[delimiter] == max(hits.values())]
                trials = [_best_quoting(sample[number:], delimiter, source) for delimiter in best_hits]
                best = max(trials, key=lambda trial: trial.score)
                return replace(best, evidence="the columns that are declared"), top + number
    if source.columns:
        trials = [_best_quoting(sample, one, source) for one in candidates]
        fitting = [trial for trial in trials if trial.width == len(source.columns) > 1 and trial.agreement >= CLEAR]
        if fitting:
            return max(fitting, key=lambda trial: trial.score), top
    if known is not None:
        return _best_quoting(sample, known, source), top
    usual = [_best_quoting(sample, one, source) for one in candidates if one in USUAL]
    unusual = [_best_quoting(sample, one, source) for one in candidates if one in UNUSUAL]
    best_usual = max(usual, key=lambda trial: trial.score, default=None)
    if best_usual is not None and best_usual.score and best_usual.agreement >= CLEAR / 2:
        return best_usual, top
    clear = [trial for trial in unusual if trial.score and trial.agreement >= CLEAR]
    if clear:
        return max(clear, key=lambda trial: trial.score), top
    if best_usual is not None and best_usual.score and best_usual.agreement >= FAINT:
        return best_usual, top
    return _best_quoting(sample, fallback, source), top


def _hits(line: str, delimiter: str, source: CsvSource) -> int:
    """How many of the declared columns a line holds as a header."""
    if line.count(delimiter) >= MOST_COLUMNS:
        return 0
    cells = _best_quoting([line], delimiter, source).records
    return len(set(source.columns) & set(raw_columns(cells[0]))) if cells else 0


def _best_quoting(lines: Sequence[str], delimiter: str, source: CsvSource) -> _Trial:
    """The trial with the quote that is declared; else double quotes, unless single ones hold the table together."""
    if source.quote is not None:
        return _Trial(lines, delimiter, source.quote, source.escape or source.quote)
    usual = _Trial(lines, delimiter, '"', source.escape or '"')
    if not any(f"{delimiter}'" in line or line.startswith("'") for line in lines):
        return usual
    single = _Trial(lines, delimiter, "'", source.escape or "'")
    is_better = single.misfits <= usual.misfits and single.quoted_fields() and not usual.quoted_fields()
    return single if is_better else usual


def _judge_escape(trial: _Trial, source: CsvSource) -> _Trial:
    """The trial, with a backslash where that escapes its quotes and doubling does not; nothing else may be escaped."""
    text = "".join(trial.lines)
    if source.escape is not None or not trial.quote or f"\\{trial.quote}" not in text:
        return trial
    if re.search(rf"\\[^{re.escape(trial.quote)}\\]", text):
        return trial
    escaped = replace(trial, escape="\\")
    return escaped if escaped.misfits < trial.misfits else trial


def _with_header(trial: _Trial, source: CsvSource) -> Dialect:
    first = tuple(trial.records[0]) if trial.records else ()
    if max(len(first), trial.width) > MOST_COLUMNS:
        raise NoTableError(f"it has more than {MOST_COLUMNS} columns under the delimiter {trial.delimiter!r}")
    header = source.header
    if header is None:
        columns = raw_columns(first)
        header = bool(set(columns) & set(source.columns)) if source.columns else not _is_data(trial)
        if source.columns and not header and not (trial.width == len(source.columns) and _is_data(trial, alone=True)):
            _refuse_header(source, first)
    elif header and source.columns and not set(raw_columns(first)) & set(source.columns):
        _refuse_header(source, first)
    quoting = (trial.delimiter, trial.quote, trial.escape)
    if header:
        return Dialect(*quoting, True, first, tuple(raw_columns(first)), 0)
    width = max(trial.width, len(first))
    names = [*source.columns[:width], *("" for _ in range(width - len(source.columns)))]
    return Dialect(*quoting, False, (), tuple(raw_columns(names)), 0)


def _refuse_header(source: CsvSource, first: Sequence[str]) -> None:
    raise NoTableError(
        f"the header has none of the columns {', '.join(source.columns)[:500]}; it is {', '.join(first)[:200]!r}"
        "; if the file has no header, set header: false"
    )


def _is_data(trial: _Trial, *, alone: bool = False) -> bool:
    """Whether the first record is surely no header: numbers and dates stand in it where the others have them.

    Without others it is none if it holds any, provided that `alone` is taken for proof.
    """
    first, rest = trial.records[0], [record for record in trial.records[1:] if len(record) == trial.width]
    if not rest:
        return alone and any(map(_kind, first))
    if len(first) != trial.width:
        return False
    kinds = [_column_kind(column) for column in zip(*rest, strict=True)]
    judged = [(cell, kind) for cell, kind in zip(first, kinds, strict=True) if kind and cell]
    if not judged or any(_kind(cell) != kind for cell, kind in judged):
        return False
    numbers = [cell for cell, kind in judged if kind == "number"]
    return len(numbers) < len(judged) or not _are_headings(numbers, rest, kinds)


def _are_headings(numbers: Sequence[str], rest: Sequence[Sequence[str]], kinds: Sequence[str]) -> bool:
    """Whether numbers in the first record are headings such as years or months: a series, and the others are none."""
    if not _is_series(numbers):
        return False
    others = [[cell for cell, kind in zip(record, kinds, strict=True) if kind == "number"] for record in rest]
    return not all(map(_is_series, others))


def _is_series(cells: Sequence[str]) -> bool:
    if not all(cell.isdecimal() and len(cell) < 10 for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    if len(numbers) == 1:
        return 1900 <= numbers[0] <= 2100
    steps = {after - before for before, after in itertools.pairwise(numbers)}
    return len(steps) == 1 and steps.pop() != 0


def _column_kind(column: Sequence[str]) -> str:
    """The kind that all filled values of a column are of; '' where they differ or are text."""
    kinds = {_kind(cell) for cell in column if cell}
    return kinds.pop() if len(kinds) == 1 else ""


_NUMBER = re.compile(r"[-+]?[$€£]?\d{1,40}([.,]\d{1,40}){0,10}([eE][-+]?\d{1,4})?\s?[%$€£]?")
_TIME = r"\d{1,2}:\d{2}(:\d{2}([.,]\d{1,9})?)?\s?([zZ]|[-+]\d{2}:?\d{2})?"
_DATE = re.compile(rf"\d{{1,4}}([-./])\d{{1,2}}\1\d{{1,4}}([ T]{_TIME})?|{_TIME}")


def _kind(cell: str) -> str:
    """`date` or `number`; '' for any other text."""
    if not cell or len(cell) > 100 or not (cell[0].isdigit() or cell[0] in "-+$€£"):
        return ""
    if _DATE.fullmatch(cell):
        return "date"
    return "number" if _NUMBER.fullmatch(cell) else ""


def _all_in_quotes(column: Sequence[str], quote: str) -> bool:
    """Whether at least two values below the first, and all that are text, stand in quotes."""
    texts = [cell for cell in column[1:] if cell and not _kind(cell)]
    return len(texts) > 1 and all(len(cell) > 1 and cell[0] == cell[-1] == quote for cell in texts)
