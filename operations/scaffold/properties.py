"""What dbt calls properties of the models of a new source: descriptions, tests, contracts and unit tests, as text."""

import json
from collections.abc import Iterable, Sequence

from operations.scaffold.design import GRAIN, LINEAGE, Design, plain, words
from operations.scaffold.edits import listed, scalar
from operations.scaffold.fields import KINDS, Field

# Values that no real record was asked for, as a source would write them, and as they are read.
_INVENTED = {
    "whole": ("7", 7), "amount": ("12.50", "12.50"), "flag": ("yes", True), "day": ("2024-01-05", "2024-01-05"),
    "moment": ("2024-01-05T10:00:00Z", "2024-01-05 10:00:00+00"),
}  # fmt: skip
_MOST_SHOWN = 5


def _head(name: str, description: str) -> str:
    return f"models:\n  - name: {name}\n    description: >\n      {description}\n"


def _key_test(columns: Sequence[str]) -> str:
    names = listed(columns, 12, "columns: ").replace(" \n", "\n")
    return f"    data_tests:\n      - primary_key:\n          arguments:\n            {names}\n"


def _described(columns: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"      - name: {scalar(name)}\n        description: {scalar(text)}\n" for name, text in columns)
    return f"    columns:\n{lines}"


def _contracted(
    columns: Iterable[tuple[str, str, str]], required: Sequence[str], *, is_unique: bool = False, is_table: bool = True
) -> str:
    text = "    columns:\n"
    for name, kind, description in columns:
        text += f"      - name: {scalar(name)}\n        data_type: {kind}\n        description: {scalar(description)}\n"
        if name in required:
            # What a table's constraint keeps needs no test; a key of one column is tested, as every key is.
            text += "        constraints:\n          - type: not_null\n" if is_table else ""
            if is_unique and len(required) == 1:
                text += "        data_tests: [not_null, unique]\n"
            elif not is_table:
                text += "        data_tests: [not_null]\n"
    return text


def _about(design: Design, field: Field, *, typed: bool) -> str:
    """What a column holds, in a short sentence; the name in the source is told where it is another one."""
    told = "Key. " if field in design.key else ""
    told += words(field.name)
    if field.kind == "document":
        told += ", JSON text"
    elif typed and field.kind in KINDS and field not in design.key:
        told += f", a {KINDS[field.kind][2]}" + (" in USD" if field.has_currency else "")
    elif not typed:
        told += ", as the source wrote it"
    return told + (f"; {field.raw} in the source." if field.raw != field.name else ".")


def _lineage_about() -> list[tuple[str, str]]:
    return [(name, text) for name, (_, _, text) in LINEAGE.items()]


def staging(design: Design) -> str:
    """Of the staging model."""
    names, (told, _, _) = design.names, GRAIN[design.kind]
    tell = "tells" if design.kind == "api" else "tell"
    text = _head(
        names.staging,
        f"{words(names.things)} as {told} of {plain(names.system)} {tell} them, every value still text. One row per"
        "\n      record of a complete load; of a record that was loaded twice (same content hash and line) the latest.",
    )
    columns = [(field.name, _about(design, field, typed=False)) for field in design.fields]
    text += _key_test(["content_hash", "line"]) + _described([*columns, *_lineage_about()])
    return text + (_staging_unit_test(design) if design.is_json else "")


def _staging_unit_test(design: Design) -> str:
    shown = design.fields[:_MOST_SHOWN]
    record = {field.raw: {"part": 1} if field.kind == "document" else f"text {n}" for n, field in enumerate(shown)}
    spelt = json.dumps(record, ensure_ascii=False).replace("}}", "} }")
    expected = "".join(
        f"          {scalar(field.name)}: "
        + ("'{\"part\":1}'" if field.kind == "document" else f"text {number}")
        + "\n"
        for number, field in enumerate(shown)
    )
    return f"""
unit_tests:
  - name: {design.names.source}_fields_arrive_under_their_names
    model: {design.names.staging}
    given:
      - input: source('raw', '{design.names.source}')
        format: sql
        rows: |
          select
              '{spelt}' as record,
              'invented' as _location, 'hash' as _content_hash, 1 as _line, 'load' as _load_id,
              cast('2024-01-01' as timestamp) as _loaded_at
      - input: ref('stg_ingestion__loads')
        rows:
          - {{ source: {design.names.source}, load_id: load, content_hash: hash, count_loaded: 1, is_complete: true }}
    expect:
      rows:
        - line: 1
{expected}"""


def judged(design: Design) -> str:
    """Of the intermediate model."""
    names = design.names
    text = _head(
        names.judged,
        f"What becomes of each record of {names.source}: its values, the rules that it breaks, its outcome. One row per"
        "\n      record.",
    )
    columns = [(field.name, _about(design, field, typed=True)) for field in design.fields]
    columns += [("failed_rules", "The rules that it breaks, joined by commas; null for none."), _OUTCOME]
    text += _key_test(["content_hash", "line"]) + _described([*columns, *_lineage_about()])
    return text + _judged_unit_test(design)


_OUTCOME = ("outcome", "accepted; duplicate where a newer one takes its place; rejected where it breaks a rule.")


def _judged_unit_test(design: Design) -> str:
    """Invented records, one for each thing that can become of a record."""
    shown = design.typed[:_MOST_SHOWN]
    good = {field.name: _INVENTED[field.kind][0] for field in shown}
    read = {field.name: _INVENTED[field.kind][1] for field in shown}

    def of_key(value: str | None) -> dict[str, object]:
        return {field.name: value for field in design.key}

    given: list[dict[str, object]] = [{"load_id": "now", "line": 1, **of_key("a"), **good}]
    expected: list[dict[str, object]] = [{"line": 1, "outcome": "accepted", "failed_rules": None, **read}]
    given.append({"load_id": "before", "line": 2, **of_key("b"), **good})
    expected.append({"line": 2, "outcome": "duplicate", "failed_rules": None, **read})
    nothing = dict.fromkeys(read)
    if design.key:
        given.append({"load_id": "now", "line": 0, **of_key("a")})
        expected.append({"line": 0, "outcome": "duplicate", "failed_rules": None, **nothing})
        given.append({"load_id": "now", "line": 4, **of_key(" "), **good})
        rules = ",".join(f"{field.name}_missing" for field in design.key)
        expected.append({"line": 4, "outcome": "rejected", "failed_rules": rules, **read})
    if shown:
        given.append({"load_id": "now", "line": 5, **of_key("c"), **good, shown[0].name: "no such value"})
        told = {"line": 5, "outcome": "rejected", "failed_rules": f"{shown[0].name}_unreadable"}
        expected.append({**told, **read, shown[0].name: None})
    for row in given:
        row |= {"content_hash": "hash", "location": "invented", "loaded_at": "2024-01-01"}
    return f"""
unit_tests:
  - name: {design.names.mart}_have_one_outcome_each
    model: {design.names.judged}
    given:
      - input: ref('{design.names.staging}')
        rows:
{_rows(given, 10)}      - input: ref('stg_ingestion__loads')
        rows:
          - {{ load_id: now, is_current: true }}
          - {{ load_id: before, is_current: false }}
    expect:
      rows:
{_rows(expected, 8)}"""


def _rows(rows: Sequence[dict[str, object]], indent: int) -> str:
    return "".join(
        f"{' ' * indent}- {{ {', '.join(f'{scalar(name)}: {scalar(value)}' for name, value in row.items())} }}\n"
        for row in rows
    )


def outcomes(design: Design) -> str:
    """Of the model that the books are made from."""
    names = design.names
    text = _head(
        names.outcomes,
        f"What became of every record of {names.source} that was loaded. One row per record. The run's books are kept"
        "\n      from it: loaded = accepted + duplicate + rejected.",
    )
    columns = [(name, kind, about) for name, (_, kind, about) in LINEAGE.items()]
    columns.append((_OUTCOME[0], "varchar", _OUTCOME[1]))
    if len(design.key) == 1:
        columns.append(("record_key", "varchar", f"{words(design.key[0].name)} of the record. Null when it has none."))
    text += _key_test(["source", "content_hash", "line"])
    return text + _contracted(columns, ["outcome", "load_id"], is_table=False)


def rejected(design: Design) -> str:
    """Of the model of records that broke a rule."""
    names = design.names
    text = _head(
        names.rejected,
        f"Records of {names.source} that broke a rule, with every rule that they broke. One row per record."
        "\n      Their values as they came: penstock deadletters show.",
    )
    columns = [(field.name, "varchar", _about(design, field, typed=True)) for field in design.key]
    columns.append(("failed_rules", '"varchar[]"', "Every rule that it breaks."))
    columns += [(name, kind, about) for name, (_, kind, about) in LINEAGE.items()]
    return text + _key_test(["source", "content_hash", "line"]) + _contracted(columns, ["load_id"])


def mart(design: Design) -> str:
    """Of the mart."""
    names = design.names
    each = " and ".join(design.mart_key) if design.key else "record"
    text = _head(
        names.mart,
        f"{words(names.things)} of {plain(names.system)} that passed every rule. One row per {each}. A candidate: "
        "readers get it\n      once the gate has passed and it was published.",
    )
    columns = [
        (field.name, "varchar" if field in design.key else field.type, _about(design, field, typed=True))
        for field in design.fields
    ]
    if not design.key:
        columns += [(name, LINEAGE[name][1], f"Key. {LINEAGE[name][2]}") for name in design.mart_key]
    if len(design.mart_key) > 1:
        text += _key_test(design.mart_key)
    return text + _contracted(columns, design.mart_key, is_unique=True)
