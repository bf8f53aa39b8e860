"""The SQL of the models of a new source, as text."""

from collections.abc import Iterable, Sequence

from operations.scaffold.design import LINEAGE, Design
from operations.scaffold.edits import WIDTH
from operations.scaffold.fields import KINDS, Field
from operations.scaffold.names import column_of

_GROUPS = ("ids", "text", "numerics", "booleans", "dates", "timestamps")
_GROUP_OF = {"whole": "numerics", "amount": "numerics", "flag": "booleans", "day": "dates", "moment": "timestamps"}


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
    return [(group, f"{relation}.{name}") for name, (group, _, _) in LINEAGE.items() if name not in left_out]


def _renamed_lineage(relation: str) -> list[tuple[str, str]]:
    return [(group, f"{relation}._{name} as {name}") for name, (group, _, _) in LINEAGE.items()]


def _group(design: Design, field: Field, *, typed: bool) -> str:
    if field in design.key or (field.kind == "text" and field.name.endswith("_id")):
        return "ids"
    return _GROUP_OF.get(field.kind, "text") if typed else "text"


def _cte(name: str, model: str) -> str:
    return f"{name} as (\n    select * from {{{{ ref('{model}') }}}}\n)"


def staging_columns(design: Design) -> str:
    """The staging model of a CSV or Parquet source."""
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
    return raw if raw == f"source.{field.name}" else _aliased(raw, field.name)


def staging_json(design: Design) -> str:
    """The staging model of a JSON or API source."""

    def keys(*kinds: bool) -> list[str]:
        return [field.raw for field in design.fields if (field.kind == "document") in kinds]

    columns = []
    for field in design.fields:
        macro = "json_document" if field.kind == "document" else "json_text"
        columns.append(
            (
                _group(design, field, typed=False),
                _aliased(f"{{{{ {macro}('parsed.fields', {_literal(field.raw)}) }}}}", field.name),
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


def judged(design: Design) -> str:
    """The intermediate model: values, the rules that a record breaks, its outcome."""
    cte = design.names.cte
    key = [(field, design.helper(field, "value")) for field in design.key]
    values = [_aliased(f"nullif(trim({cte}.{field.name}), '')", value) for field, value in key]
    rules = []
    for field, value in key:
        rules.append((field, f"case when typed.{value} is null then '{field.name}_missing' end"))
    for field in design.typed:
        value = design.helper(field, "value")
        values.append(_aliased(f"{{{{ {KINDS[field.kind][0]}('trim({cte}.{field.name})') }}}}", value))
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
                f"ranked.{value}" if value == field.name else _aliased(f"ranked.{value}", field.name),
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
    """A rule on one line, or part by part where that would be long."""
    if len(rule) <= 70:
        return rule
    parts = {"case when ": "case\n            when\n                ", " end": "\n        end"}
    parts |= {" and trim": "\n                and trim", " then ": "\n                then "}
    for part, longer in parts.items():
        rule = rule.replace(part, longer)
    return rule


def _aliased(expression: str, name: str) -> str:
    """An expression under a name, which goes to the next line where one would be too long."""
    line = f"{expression} as {name}"
    return line if len(line) + 10 <= WIDTH else f"{expression}\n            as {name}"


def outcomes(design: Design) -> str:
    """The model that the books are made from."""
    key = [("ids", f"judged.{design.key[0].name} as record_key")] if len(design.key) == 1 else []
    columns = [*_lineage("judged"), ("text", "judged.outcome"), *key]
    return f"""{{#- A view: it repeats what a table holds already, and only the run's books read it. -#}}
{{{{ config(materialized='view') }}}}

{_final(design, columns)}"""


def rejected(design: Design) -> str:
    """The records that broke a rule."""
    key = [("ids", f"judged.{field.name}") for field in design.key]
    rules = ("text", "{{ rules_array('judged.failed_rules') }} as failed_rules")
    return _final(design, [*key, rules, *_lineage("judged")], "rejected")


def mart(design: Design) -> str:
    """The records that passed."""
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
