"""How the records of a CSV chunk are parsed, as text: by Arrow where the frame is known, by DuckDB where it is not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from foundation.warehouse import quote_identifier, quote_literal

_BLOCK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Table:
    """How a file's records are parsed: its raw columns and its dialect. No quote means that nothing is quoted."""

    columns: Sequence[str]
    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'

    @property
    def marks(self) -> str:
        """The quote and what escapes it: the characters that are in the file but need not be in the values."""
        return "".join(dict.fromkeys(self.quote + self.escape)) if self.quote else ""

    def empty(self) -> pa.Table:
        """No records."""
        return pa.schema([(column, pa.string()) for column in self.columns]).empty_table()

    def scan(self, path: Path) -> str:
        """The table function that reads `path`."""
        types = ", ".join(f"{quote_literal(column)}: 'VARCHAR'" for column in self.columns)
        return (
            f"read_csv({quote_literal(str(path))}, auto_detect = false, header = false, columns = {{{types}}}, "
            f"delim = {quote_literal(self.delimiter)}, quote = {quote_literal(self.quote)}, "
            f"escape = {quote_literal(self.escape if self.quote else '')}, new_line = '\\n', strict_mode = true, "
            "store_rejects = true, nullstr = '', allow_quoted_nulls = false)"
        )


@dataclass(frozen=True)
class Reject:
    """A record that DuckDB would not parse. `text` is cut at 10,000 characters."""

    position: int
    kind: str
    message: str
    text: str

    @property
    def lines(self) -> int:
        """How many lines DuckDB took for this record."""
        return self.text.strip("\n").count("\n") + 1


def parse_records(data: bytes, table: Table) -> pa.Table:
    """The records of `data`, whose quoting is regular and whose records all have the columns of `table`, as text.

    Raises pa.ArrowInvalid.
    """
    return arrow_csv.read_csv(
        pa.BufferReader(data),
        read_options=arrow_csv.ReadOptions(
            column_names=list(table.columns), use_threads=False, block_size=_BLOCK_BYTES
        ),
        parse_options=arrow_csv.ParseOptions(
            delimiter=table.delimiter,
            quote_char=table.quote or False,
            double_quote=True,
            newlines_in_values=True,
            ignore_empty_lines=False,
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(table.columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


@dataclass
class StrictParse:
    """Strict passes of DuckDB over bytes into the table `parsed`."""

    connection: duckdb.DuckDBPyConnection
    table: Table
    temporary: Path

    def into_table(self, data: bytes) -> list[Reject]:
        """Parse into the table `parsed`; what was rejected."""
        self.temporary.write_bytes(data)
        for rejects in ("reject_errors", "reject_scans"):
            self.connection.execute(f"drop table if exists {rejects}")
        self.connection.execute(
            f"create or replace temp table parsed as select * from {self.table.scan(self.temporary)}"
        )
        found = self.connection.execute(
            "select line_byte_position, error_type::varchar, error_message, csv_line from reject_errors order by 1"
        ).fetchall()
        return [Reject(*reject) for reject in found]

    def rows(self) -> pa.Table:
        """The rows of `parsed`, in their order."""
        return self.connection.execute("select * from parsed order by rowid").to_arrow_table()

    def measures(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each row of `parsed`: how many lines that are not blank it took, and its bytes less the marks in them."""
        names = [quote_identifier(column) for column in self.table.columns]
        # Sums of lists, because thousands of terms added up are too deep an expression.
        lines = ", ".join(_LINES_IN_FIELD.format(name) for name in names)
        length = ", ".join(_LENGTH_WITHOUT_MARKS.format(name) for name in names)
        found = self.connection.execute(
            f"select 1 + list_sum([{lines}]) as lines, coalesce(list_sum([{length}]), 0) as length "
            "from parsed order by rowid",
            {"marks": self.table.marks},
        ).fetchnumpy()
        return np.asarray(found["lines"], np.int64), np.asarray(found["length"], np.int64)


_LENGTH_WITHOUT_MARKS = "strlen(translate({0}, $marks, ''))"
# Line ends in a field, less the blank lines between them: only the first and last part share a line with other text.
_LINES_IN_FIELD = (
    "case when contains({0}, chr(10)) then length({0}) - length(replace({0}, chr(10), ''))"
    " - len(list_filter(string_split({0}, chr(10))[2:-2], lambda part: part = '')) else 0 end"
)
