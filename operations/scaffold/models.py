"""The dbt files of a new source, as text: its table, and its records on their way from staging to a mart."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from operations.scaffold.edits import WIDTH, listed, scalar
from operations.scaffold.fields import KINDS, Field
from operations.scaffold.names import Names, column_of, unused

_GROUPS = ("ids", "text", "numerics", "booleans", "dates", "timestamps")
_GROUP_OF = {"whole": "numerics", "amount": "numerics", "flag": "booleans", "day": "dates", "moment": "timestamps"}
_LINEAGE = {
    "load_id": ("ids", "varchar", "The load that brought the record."),
    "run_id": ("ids", "varchar", "The run of that load."),
    "source": ("text", "varchar", "Key of the source in penstock.yml."),
    "location": ("text", "varchar", "Where the record stood, a file relative to the root or the URL of a page."),
    "content_hash": ("text", "varchar", "SHA-256 of the file version or page body."),
    "line": ("numerics", "bigint", "Line of the file, or item of the array or page."),
    "loaded_at": ("timestamps", "timestamp with time zone", "Start of the run that loaded it, UTC."),
}
# Values that no real record was asked for, as a source would write them, and as they are read.
_INVENTED = {
    "whole": ("7", 7), "amount": ("12.50", "12.50"), "flag": ("yes", True), "day": ("2024-01-05", "2024-01-05"),
    "moment": ("2024-01-05T10:00:00Z", "2024-01-05 10:00:00+00"),
}  # fmt: skip
_GRAIN = {
    "csv": ("CSV files", "One row per data line of a file.", "Physical line in the file."),
    "json": ("JSON files", "One row per record of a file.", "Line of the file, or item of its array."),
    "parquet": ("Parquet files", "One row per row of a file.", "Row of the file, from 1."),
    "api": ("an API", "One row per item of a page.", "Item on the page, from 1."),
}
_MOST_SHOWN = 5


@dataclass(frozen=True)
class Design:
    """What the files are made from."""

    names: Names
    kind: str
    fields: tuple[Field, ...]
    key: tuple[Field, ...]

    @property
    def is_json(self) -> bool:
        """Whether raw has a record whole."""
        return self.kind in ("json", "api")

    @property
    def mart_key(self) -> list[str]:
        """The columns that name a row of the mart."""
        return [field.name for field in self.key] or ["content_hash", "line"]

    @property
    def typed(self) -> list[Field]:
        """The fields whose values are read as more than text."""
        return [field for field in self.fields if field.kind in KINDS and field not in self.key]

    def helper(self, field: Field, ending: str) -> str:
        """A column that a model has for itself about a field, under a name that no field has."""
        return unused(f"{field.name}_{ending}", [each.name for each in self.fields])


def files(design: Design) -> dict[str, str]:
    """Path below models/ and text of every new model, each before what reads it."""
    names = design.names
    staging = f"staging/{names.domain}/{names.staging}"
    judged = f"intermediate/{names.domain}/{names.judged}"
    marts = f"marts/{names.domain}/"
    return {
        f"{staging}.yml": _staging_yml(design),
        f"{staging}.sql": _staging_json(design) if design.is_json else _staging_columns(design),
        f"{judged}.yml": _judged_yml(design),
        f"{judged}.sql": _judged(design),
        f"{marts}{names.outcomes}.yml": _outcomes_yml(design),
        f"{marts}{names.outcomes}.sql": _outcomes(design),
        f"{marts}{names.rejected}.yml": _rejected_yml(design),
        f"{marts}{names.rejected}.sql": _rejected(design),
        f"{marts}{names.mart}.yml": _mart_yml(design),
        f"{marts}{names.mart}.sql": _mart(design),
    }


def table(design: Design, raw: Sequence[str]) -> list[str]:
    """The table of raw in the file of sources, as an item of a list; `raw` are its columns."""
    told, grain, line = _GRAIN[design.kind]
    place = "URL of the page." if design.kind == "api" else "File relative to the root."
    version = "page body" if design.kind == "api" else "file version"
    columns = [(name, "varchar", f"{_words(name)}, as the source wrote it.") for name in raw]
    if design.is_json:
        columns = [("record", "varchar", "The record's JSON text as written.")]
    columns += [
        ("_location", "varchar", place),
        ("_content_hash", "varchar", f"SHA-256 of the {version}."),
        ("_line", "bigint", line),
        ("_load_id", "varchar", "The load that brought the record."),
        ("_loaded_at", "timestamp with time zone", "Start of that run."),
    ]
    return [
        f"- name: {design.names.source}",
        f"  description: {scalar(f'{_words(design.names.things)} of {_plain(design.names.system)}, {told}. {grain}')}",
        "  config:",
        "    loaded_at_field: _loaded_at",
        "    freshness: # a month and some days: how often it comes is not known yet",
        "      warn_after: { count: 35, period: day }",
        "  columns:",
        *(
            f"    - {{ name: {scalar(name)}, data_type: {kind}, description: {scalar(text)} }}"
            for name, kind, text in columns
        ),
    ]


def sources_file(lines: Sequence[str]) -> str:
    """A file of sources with that table alone."""
    head = [
        "# The tables carry the names of the sources in penstock.yml. Fields that no column here names stay in raw."
    ]
    head += ["sources:", "  - name: raw", "    schema: raw", "    tables:"]
    return "\n".join([*head, *(f"      {line}" for line in lines)]) + "\n"


# SQL


def _select(columns: Iterable[tuple[str, str]]) -> str:
    """A select list in the order of the house: each column with its group."""
    by_group: dict[str, list[str]] = {group: [] for group in _GROUPS}
    for group, text in columns:
        by_group[group].append(text)
    lines = []
    last = [text for texts in by_group.values() for text in texts][-1]
    for group, texts in by_group.items():
        lines += [f"        -- {group}"] if texts else []
        lines += [f"        {text}" + ("" if text is last else ",") for text in texts]
    return "\n".join(lines)


def _lineage(relation: str, *left_out: str) -> list[tuple[str, str]]:
    return [(group, f"{relation}.{name}") for name, (group, _, _) in _LINEAGE.items() if name not in left_out]


def _renamed_lineage(relation: str) -> list[tuple[str, str]]:
    return [(group, f"{relation}._{name} as {name}") for name, (group, _, _) in _LINEAGE.items()]


def _group(design: Design, field: Field, *, typed: bool) -> str:
    if field in design.key or (field.kind == "text" and field.name.endswith("_id")):
        return "ids"
    return _GROUP_OF.get(field.kind, "text") if typed else "text"


def _cte(name: str, model: str) -> str:
    return f"{name} as (\n    select * from {{{{ ref('{model}') }}}}\n)"


def _staging_columns(design: Design) -> str:
    columns = [(_group(design, field, typed=False), _renamed(field)) for field in design.fields]
    return f"""with source as (
    {{{{ complete_records(source('raw', '{design.names.source}')) }}}}
),

renamed as (
    select
{_select([*columns, *_renamed_lineage("source")])}
    from source
)

select * from renamed
"""


def _renamed(field: Field) -> str:
    raw = column_of("source", field.raw)
    return raw if raw == f"source.{field.name}" else f"{raw} as {field.name}"


def _staging_json(design: Design) -> str:
    def keys(*kinds: bool) -> list[str]:
        return [field.raw for field in design.fields if (field.kind == "document") in kinds]

    columns = []
    for field in design.fields:
        macro = "json_document" if field.kind == "document" else "json_text"
        columns.append(
            (
                _group(design, field, typed=False),
                f"{{{{ {macro}('parsed.fields', {_literal(field.raw)}) }}}} as {field.name}",
            )
        )
    return f"""with source as (
    {{{{ complete_records(source('raw', '{design.names.source}')) }}}}
),

parsed as (
    select
        source.*,
        {{{{ json_parsed(
            'source.record',
            texts={_literals(keys(False), 12)},
            documents={_literals(keys(True), 12)}
        ) }}}} as fields
    from source
),

renamed as (
    select
{_select([*columns, *_renamed_lineage("parsed")])}
    from parsed
)

select * from renamed
"""


def _literal(key: str) -> str:
    return f"'{key}'"


def _literals(keys: Sequence[str], indent: int) -> str:
    line = f"[{', '.join(map(_literal, keys))}]"
    if indent + 12 + len(line) <= WIDTH:
        return line
    lines = [" " * (indent + 4)]
    for key in keys:
        piece = f"{_literal(key)},"
        if lines[-1].strip() and len(lines[-1]) + 1 + len(piece) > WIDTH:
            lines.append(" " * (indent + 4))
        lines[-1] += f" {piece}" if lines[-1].strip() else piece
    return "\n".join(["[", *lines, " " * indent + "]"])


def _judged(design: Design) -> str:
    cte = design.names.cte
    key = [(field, design.helper(field, "value")) for field in design.key]
    values = [f"nullif(trim({cte}.{field.name}), '') as {value}" for field, value in key]
    rules = []
    for field, value in key:
        rules.append((field, f"case when typed.{value} is null then '{field.name}_missing' end"))
    for field in design.typed:
        value = design.helper(field, "value")
        values.append(f"{{{{ {KINDS[field.kind][0]}('trim({cte}.{field.name})') }}}} as {value}")
        condition = f"typed.{value} is null and trim(typed.{field.name}) <> ''"
        rules.append((field, f"case when {condition} then '{field.name}_unreadable' end"))
    failed = [design.helper(field, "failed") for field, _ in rules]
    judged = [f"{_fitted(rule)} as {name}" for (_, rule), name in zip(rules, failed, strict=True)]
    joined = "cast(null as {{ text_type() }}) as failed_rules"
    if rules:
        texts = _literals([f"judged.{name}" for name in failed], 8)
        joined = f"{{{{ joined_rules({texts}) }}}} as failed_rules"
    version = ""
    if key:
        partition = ", ".join(f"ruled.{value}" for _, value in key)
        version = f""",
        row_number() over (
            partition by {partition}, ruled.failed_rules is null
            order by
                ruled.is_current desc,
                ruled.loaded_at desc,
                ruled.location desc,
                ruled.line desc,
                ruled.content_hash desc
        ) as version_number"""
    newer = "not ranked.is_current or ranked.version_number > 1" if key else "not ranked.is_current"
    columns = []
    for field in design.fields:
        value = design.helper(field, "value") if field in (*design.key, *design.typed) else field.name
        columns.append(
            (
                _group(design, field, typed=True),
                f"ranked.{value}" + ("" if value == field.name else f" as {field.name}"),
            )
        )
    outcome = f"""case
            when ranked.failed_rules is not null then 'rejected'
            when {newer} then 'duplicate'
            else 'accepted'
        end as outcome"""
    columns += [("text", "ranked.failed_rules"), ("text", outcome), *_lineage("ranked")]
    of_key = "Of several records with one key the newest counts.\n    A" if key else "These records have no key.\n    A"
    select_values = "".join(f"        {value},\n" for value in values)
    select_rules = "".join(f",\n        {rule}" for rule in judged)
    return f"""{{#-
    A table: the mart, the outcomes and the rejected records all read it. {of_key} file counts in its newest
    version: the rows of an older one are duplicates of it.
-#}}
{{{{ config(materialized='table') }}}}

with {_cte(cte, design.names.staging)},

{_cte("loads", "stg_ingestion__loads")},

-- a text that cannot be read as a value is null here, which a rule below tells
typed as (
    select
        {cte}.*,
{select_values}        loads.is_current
    from {cte}
    inner join loads on {cte}.load_id = loads.load_id
),

judged as (
    select
        typed.*{select_rules}
    from typed
),

ruled as (
    select
        judged.*,
        {joined}
    from judged
),

ranked as (
    select
        ruled.*{version}
    from ruled
),

final as (
    select
{_select(columns)}
    from ranked
)

select * from final
"""


def _fitted(rule: str) -> str:
    """A rule on one line, or on three where that would be too long."""
    if len(rule) <= 70:
        return rule
    return (
        rule.replace("case when ", "case\n            when ")
        .replace(" end", "\n        end")
        .replace(" then '", "\n                then '")
    )


def _outcomes(design: Design) -> str:
    key = [("ids", f"judged.{design.key[0].name} as record_key")] if len(design.key) == 1 else []
    columns = [*_lineage("judged"), ("text", "judged.outcome"), *key]
    return f"""{{#- A view: it repeats what a table holds already, and only the run's books read it. -#}}
{{{{ config(materialized='view') }}}}

{_final(design, columns)}"""


def _rejected(design: Design) -> str:
    key = [("ids", f"judged.{field.name}") for field in design.key]
    rules = ("text", "{{ rules_array('judged.failed_rules') }} as failed_rules")
    return _final(design, [*key, rules, *_lineage("judged")], "rejected")


def _mart(design: Design) -> str:
    columns = [(_group(design, field, typed=True), f"judged.{field.name}") for field in design.fields]
    if not design.key:
        columns += [("ids", "judged.content_hash"), ("numerics", "judged.line")]
    return _final(design, columns, "accepted")


def _final(design: Design, columns: Iterable[tuple[str, str]], outcome: str = "") -> str:
    where = f"\n    where judged.outcome = '{outcome}'" if outcome else ""
    return f"""with {_cte("judged", design.names.judged)},

final as (
    select
{_select(columns)}
    from judged{where}
)

select * from final
"""


# YAML


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
            tests = "[not_null, unique]" if is_unique and len(required) == 1 else "[not_null]"
            text += "        constraints:\n          - type: not_null\n" if is_table else ""
            text += f"        data_tests: {tests}\n"
    return text


def _about(design: Design, field: Field, *, typed: bool) -> str:
    """What a column holds, in a short sentence; the name in the source is told where it is another one."""
    told = "Key. " if field in design.key else ""
    told += _words(field.name)
    if field.kind == "document":
        told += ", JSON text"
    elif typed and field.kind in KINDS and field not in design.key:
        told += f", a {KINDS[field.kind][2]}" + (" in USD" if field.has_currency else "")
    elif not typed:
        told += ", as the source wrote it"
    return told + (f"; {field.raw} in the source." if field.raw != field.name else ".")


def _lineage_about() -> list[tuple[str, str]]:
    return [(name, text) for name, (_, _, text) in _LINEAGE.items()]


def _staging_yml(design: Design) -> str:
    names, (told, _, _) = design.names, _GRAIN[design.kind]
    tell = "tells" if design.kind == "api" else "tell"
    text = _head(
        names.staging,
        f"{_words(names.things)} as {told} of {_plain(names.system)} {tell} them, every value still text. One row per"
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


def _judged_yml(design: Design) -> str:
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


def _outcomes_yml(design: Design) -> str:
    names = design.names
    text = _head(
        names.outcomes,
        f"What became of every record of {names.source} that was loaded. One row per record. The run's books are kept"
        "\n      from it: loaded = accepted + duplicate + rejected.",
    )
    columns = [(name, kind, about) for name, (_, kind, about) in _LINEAGE.items()]
    columns.append((_OUTCOME[0], "varchar", _OUTCOME[1]))
    if len(design.key) == 1:
        columns.append(("record_key", "varchar", f"{_words(design.key[0].name)} of the record. Null when it has none."))
    text += _key_test(["source", "content_hash", "line"])
    return text + _contracted(columns, ["outcome", "load_id"], is_table=False)


def _rejected_yml(design: Design) -> str:
    names = design.names
    text = _head(
        names.rejected,
        f"Records of {names.source} that broke a rule, with every rule that they broke. One row per record."
        "\n      Their values as they came: penstock deadletters show.",
    )
    columns = [(field.name, "varchar", _about(design, field, typed=True)) for field in design.key]
    columns.append(("failed_rules", '"varchar[]"', "Every rule that it breaks."))
    columns += [(name, kind, about) for name, (_, kind, about) in _LINEAGE.items()]
    return text + _key_test(["source", "content_hash", "line"]) + _contracted(columns, ["load_id"])


def _mart_yml(design: Design) -> str:
    names = design.names
    each = " and ".join(design.mart_key) if design.key else "record"
    text = _head(
        names.mart,
        f"{_words(names.things)} of {_plain(names.system)} that passed every rule. One row per {each}. A candidate: "
        "readers get it\n      once the gate has passed and it was published.",
    )
    columns = [
        (field.name, "varchar" if field in design.key else field.type, _about(design, field, typed=True))
        for field in design.fields
    ]
    if not design.key:
        columns += [(name, _LINEAGE[name][1], f"Key. {_LINEAGE[name][2]}") for name in design.mart_key]
    if len(design.mart_key) > 1:
        text += _key_test(design.mart_key)
    return text + _contracted(columns, design.mart_key, is_unique=True)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _words(name: str) -> str:
    """A name as the beginning of a sentence."""
    text = _plain(name)
    return text[:1].upper() + text[1:]
