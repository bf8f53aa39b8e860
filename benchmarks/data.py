"""Invented employee records of any number, the same bytes for a seed each time: CSV, NDJSON, a JSON array, API pages.

A part of them is bad at wish, in one of two ways: malformed (no record can be read from it, a dead letter) or invalid
(a record that breaks a rule of the models). How many there are of each is counted while they are made. The records of
a small file are the first ones of a large file, so that a small one is a slice.
"""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import duckdb
import numpy as np
import typer

from benchmarks import SEED

Format = Literal["csv", "ndjson", "json", "pages"]

CHUNK_ROWS = 200_000
DEFAULT_FOLDER = Path(tempfile.gettempdir()) / "penstock-benchmarks"

_FILE_NAMES: Mapping[Format, str] = {
    "csv": "employees.csv",
    "ndjson": "employees.ndjson",
    "json": "employees.json",
    "pages": "pages.ndjson",
}
_HEADER = "id,name,email,age,department,salary,joinDate,isActive,metadata,updatedAt\n"

_MALFORMED: Mapping[Format, tuple[str, ...]] = {
    "csv": ("too_few_fields", "too_many_fields", "text_after_quote"),
    "ndjson": ("cut_object", "trailing_comma", "not_a_number"),
    "json": ("not_an_object",),  # the array itself stays whole
    "pages": ("not_an_object",),
}
_INVALID = ("age_below_16", "email_without_at", "department_unknown", "salary_negative", "join_date_no_date")

# What is written, and what stands for it in the e-mail address.
_GIVEN = {
    "Ann": "ann", "Ben": "ben", "Carla": "carla", "David": "david", "Ella": "ella", "Frank": "frank",
    "Grace": "grace", "Henry": "henry", "Iris": "iris", "Jack": "jack", "Karen": "karen", "Liam": "liam",
    "José": "jose", "Zoë": "zoe", "Łukasz": "lukasz", "Иван": "ivan",
}  # fmt: skip
_FAMILY = {
    "Archer": "archer", "Bell": "bell", "Carver": "carver", "Dale": "dale", "Ellis": "ellis", "Hale": "hale",
    "Kemp": "kemp", "Lowell": "lowell", "Marsh": "marsh", "Norton": "norton", "Oakes": "oakes", "O'Neil": "oneil",
    "Muñoz": "munoz", "Smith-Jones": "smith", "Wren": "wren", "Yates": "yates",
}  # fmt: skip
_DEPARTMENTS = ("Engineering", "Sales", "Marketing", "HR", "Finance", "eng", "SALES", "mktg")
_OFFICES = ("Northport", "Eastvale", "Köln-Süd", "São Bento", "Lakeside", "Świt", "東町", "Hill")


@dataclass(frozen=True)
class Dataset:
    """A file of `rows` records. `malformed` and `invalid` count the bad ones among them, by what is wrong."""

    path: Path
    format: Format
    rows: int
    malformed: Mapping[str, int]
    invalid: Mapping[str, int]
    size_bytes: int

    @property
    def dead_letters(self) -> int:
        """Records that nothing can be read from."""
        return sum(self.malformed.values())

    @property
    def loadable(self) -> int:
        """Records that arrive in raw, those that break a rule among them."""
        return self.rows - self.dead_letters


def make_dataset(
    folder: Path,
    format: Format,
    rows: int,
    *,
    malformed: float = 0.0,
    invalid: float = 0.02,
    page_size: int = 1000,
    seed: int = SEED,
) -> Dataset:
    """The dataset from the cache in `folder`, made first if it is not there.

    `malformed` and `invalid` are shares of the records; with the format pages a line is the body of a page of
    `page_size` records. Raises ValueError for shares or sizes that make no sense.
    """
    if rows < 1 or page_size < 1 or malformed < 0 or invalid < 0 or malformed + invalid > 1:
        raise ValueError(f"no dataset has {rows} rows, {page_size} in a page, shares {malformed:g} and {invalid:g}")
    queries = _records(format, malformed, invalid, rows, seed), _lines(format, rows, page_size)
    # Another generator or another DuckDB may make other bytes, so both are in the name.
    version = hashlib.sha256(f"{queries}{_HEADER}{duckdb.__version__}".encode()).hexdigest()[:12]
    home = folder / "data" / f"{format}-{rows}-{version}"
    if not (home / "expected.json").exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
        try:
            _write(unfinished, format, rows, page_size, *queries)
            if not home.exists():  # another process may have made it meanwhile
                unfinished.rename(home)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    expected = json.loads((home / "expected.json").read_text(encoding="utf-8"))
    return Dataset(path=home / _FILE_NAMES[format], **expected)


def _write(folder: Path, format: Format, rows: int, page_size: int, records: str, lines: str) -> None:
    kinds: Counter[str] = Counter()
    path = folder / _FILE_NAMES[format]
    step = max(CHUNK_ROWS // page_size, 1) * page_size  # no page lies in two chunks
    with duckdb.connect() as connection, path.open("wb") as file:
        connection.execute("set enable_progress_bar = false")
        file.write({"csv": _HEADER, "json": "[\n"}.get(format, "").encode())
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            connection.execute(f"create or replace temp table chunk as {records}", {"start": start, "stop": stop})
            kinds.update(dict(connection.execute("select kind, count(*) from chunk group by kind").fetchall()))
            for batch in connection.sql(lines).to_arrow_reader(50_000):
                # An Arrow column of text is its text in one piece: with every end of line in it, it is the file.
                column = batch.column(0)
                _, offsets, text = column.buffers()
                first, *_, last = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
                file.write(memoryview(text)[first:last])
        file.write({"json": "]\n"}.get(format, "").encode())
    found = Dataset(
        path,
        format,
        rows,
        {kind: kinds[kind] for kind in _MALFORMED[format]},
        {kind: kinds[kind] for kind in _INVALID},
        path.stat().st_size,
    )
    expected = {name: value for name, value in asdict(found).items() if name != "path"}
    (folder / "expected.json").write_text(json.dumps(expected, indent=2) + "\n", encoding="utf-8")


def _lines(format: Format, rows: int, page_size: int) -> str:
    if format != "pages":
        return "select text from chunk"
    counts = f'\'"total": {rows}, "total_pages": {-(-rows // page_size)}}}\''
    return f"""
        select '{{"data": [' || string_agg(text, ', ' order by i) || '], "page": ' || 1 + i // {page_size} || ', '
            || {counts} || chr(10)
        from chunk group by i // {page_size} order by i // {page_size}"""


def _records(format: Format, malformed: float, invalid: float, rows: int, seed: int) -> str:
    """SQL for the records $start to $stop: i, kind (empty: a good one) and text, which ends its line."""

    def die(number: int, sides: int) -> str:
        return f"hash(i, {seed}, {number}) % {sides}"

    def pick(number: int, words: Sequence[str]) -> str:
        return f"({_list(words)})[1 + ({die(number, len(words))})::bigint]"

    share_of_malformed, share_of_bad = round(malformed * 1e6), round((malformed + invalid) * 1e6)
    return f"""
        with thrown as (
            select
                i,
                case
                    when {die(0, 1_000_000)} < {share_of_malformed} then {pick(1, _MALFORMED[format])}
                    when {die(0, 1_000_000)} < {share_of_bad} then {pick(1, _INVALID)}
                    else ''
                end as kind,
                (1 + {die(2, len(_GIVEN))})::bigint as given,
                (1 + {die(3, len(_FAMILY))})::bigint as family,
                (30000 + {die(4, 120_000)})::bigint as dollars,
                {die(5, 10)} < 3 as is_spelt_with_dollar,
                {die(6, 4)} = 0 as has_metadata,
                {die(7, 3)} = 0 as has_time
            from range($start, $stop) as numbers(i)
        ),
        people as (
            select
                i, kind, has_time,
                (10000 + i)::varchar as id,
                ({_list(_GIVEN)})[given] || ' ' || ({_list(_FAMILY)})[family] as name,
                ({_list(_GIVEN.values())})[given] || '.' || ({_list(_FAMILY.values())})[family] || (10000 + i)
                    || if(kind = 'email_without_at', '.', '@') || 'example.com' as email,
                if(kind = 'age_below_16', 15, 18 + {die(8, 50)})::varchar as age,
                if(kind = 'department_unknown', 'Legal', {pick(9, _DEPARTMENTS)}) as department,
                case
                    when kind = 'salary_negative' then '-5'
                    when is_spelt_with_dollar then '"$' || format('{{:,}}', dollars) || '.00"'
                    else dollars::varchar
                end as salary,
                if(
                    kind = 'join_date_no_date', 'not-a-date',
                    strftime(date '2000-01-01' + ({die(10, 9400)})::integer, '%Y-%m-%d')
                ) as join_date,
                if({die(11, 8)} = 0, 'false', 'true') as is_active,
                if(
                    has_metadata,
                    '{{"office": "' || {pick(12, _OFFICES)} || '", "floor": ' || ({die(13, 12)}) || '}}', null
                ) as metadata,
                strftime(timestamp '2021-01-01' + to_seconds(({die(14, 157_000_000)})::bigint), '%Y-%m-%dT%H:%M:%SZ')
                    as updated_at
            from thrown
        )
        select i, kind, {_text(format)} || {_line_end(format, rows)} as text from people"""


def _text(format: Format) -> str:
    if format == "csv":
        name = "if(kind = 'text_after_quote', '\"' || name || '\"s', name)"
        head = f"id || ',' || {name} || ',' || email || ',' || age"
        metadata = "coalesce('\"' || replace(metadata, '\"', '\"\"') || '\"', '')"
        tail = f"""',' || department || ',' || salary || ',' || join_date || ',' || is_active || ',' || {metadata}
            || ',' || if(has_time, updated_at, '')"""
        return f"""{head} || case kind
            when 'too_few_fields' then '' when 'too_many_fields' then {tail} || ',one,more' else {tail} end"""
    record = """'{"id": "' || id || '", "name": "' || name || '", "email": "' || email || '", "age": ' || age
        || ', "department": "' || department || '", "salary": ' || salary || ', "joinDate": "' || join_date
        || '", "isActive": ' || is_active || coalesce(', "metadata": ' || metadata, '')
        || if(has_time, ', "updatedAt": "' || updated_at || '"', '')"""
    return f"""case kind
        when 'not_an_object' then '"moved to payroll"'
        when 'cut_object' then left({record}, 60)
        when 'trailing_comma' then {record} || ',}}'
        when 'not_a_number' then {record} || ', "share": NaN}}'
        else {record} || '}}' end"""


def _line_end(format: Format, rows: int) -> str:
    return {
        "json": f"if(i = {rows - 1}, '', ',') || chr(10)",
        "pages": "''",
    }.get(format, "chr(10)")


def _list(words: Iterable[str]) -> str:
    quoted = (word.replace("'", "''") for word in words)
    return "['" + "', '".join(quoted) + "']"


def main(
    format: Annotated[Format, typer.Argument(help="A file of records, or one of page bodies, one a line.")],
    rows: Annotated[int, typer.Argument(min=1)],
    malformed: Annotated[float, typer.Option(help="Share of records that cannot be read.")] = 0.0,
    invalid: Annotated[float, typer.Option(help="Share of records that break a rule.")] = 0.02,
    page_size: Annotated[int, typer.Option(min=1, help="Records in a page.")] = 1000,
    seed: int = SEED,
    data_dir: Path = DEFAULT_FOLDER,
) -> None:
    """Make a dataset, unless it is there, and say where it is and what is in it."""
    made = make_dataset(data_dir, format, rows, malformed=malformed, invalid=invalid, page_size=page_size, seed=seed)
    typer.echo(json.dumps(asdict(made), indent=2, default=str))


if __name__ == "__main__":
    typer.run(main)
