"""The suites of a new source, as text: first bounds from what was seen, each with its reason."""

from collections.abc import Sequence
from decimal import Decimal

from operations.scaffold.design import Design
from operations.scaffold.fields import Field

# So many columns are judged by a suite; more are added where somebody knows what they mean.
_MOST_COLUMNS = 10
# The longest name that fits into a line of the query.
_LONGEST_SHOWN = 60


def files(design: Design, count: int) -> dict[str, str]:
    """Path below the root and text of each suite; `count` records were looked at."""
    names = design.names
    return {
        f"expectations/suites/{names.source}.py": _raw(design, count),
        f"expectations/suites/{names.mart}.py": _mart(design, count),
        f"expectations/suites/{names.outcomes}.py": _outcomes(design),
    }


def _raw(design: Design, count: int) -> str:
    name = design.names.source
    columns = ["record"] if design.is_json else [field.raw for field in design.fields]
    filled = [field for field in design.fields if field.filled == count and len(field.raw) <= _LONGEST_SHOWN]
    filled = [*design.key, *(field for field in filled if field not in design.key)][:_MOST_COLUMNS]
    of_fields = "fields" if design.is_json else "columns"
    judged = _filled(design, filled, count) if filled else ""
    new_records = f'    new_records = history.unreleased("{name}", "_loaded_at")\n' if filled else ""
    measure = "from expectations.measure import ExpectMeasureToBeBetween\n" if filled else ""
    return f'''"""raw.{name}: the records arrive whole, with the {of_fields} that staging reads."""

from datetime import timedelta

import great_expectations as gx
import great_expectations.expectations as gxe

from expectations.history import History
{measure}from expectations.suites import _raw

GATE = "raw"
KEY = _raw.KEY

COLUMNS = {_tuple(columns)}
STALE_AFTER = timedelta(days=35)


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
{new_records}    return gx.ExpectationSuite(
        name="{name}",
        expectations=[
            *_raw.shape("{name}", COLUMNS, history),
{judged}            gxe.ExpectColumnMaxToBeBetween(
                column="_loaded_at",
                min_value=history.judged_at - STALE_AFTER,
                severity="warning",
                notes="How often records come is not known yet; after a month without any, somebody should look.",
            ),
        ],
    )
'''


def _filled(design: Design, fields: Sequence[Field], count: int) -> str:
    shares = ",\n".join(
        f"                        100.0 * avg(case when coalesce(texts[{place}], '') = '' then 0 else 1 end)\n"
        f"                            as {_quoted(field.name)}"
        for place, field in enumerate(fields, start=1)
    )
    pad = " " * 32
    if design.is_json:
        paths = ",\n".join(f"{pad}'$.{_quoted(field.raw)}'" for field in fields)
        texts = f"json_extract_string(record, [\n{paths}\n{pad[4:]}])"
    else:
        listed = ",\n".join(f"{pad}{_quoted(field.raw)}" for field in fields)
        texts = f"[\n{listed}\n{pad[4:]}]"
    seen = f"{count:,} records" if count > 1 else "the one record"
    return f'''            ExpectMeasureToBeBetween(
                measure="emptiest_column_filled_pct",
                query=f"""
                    select coalesce(min(filled_pct), 100), arg_min(name, filled_pct) as emptiest_column
                    from (unpivot (
                        select
{shares}
                        from (
                            select {texts} as texts
                            from {{{{batch}}}} where {{new_records}}
                        )
                    ) on columns(*) into name name value filled_pct)
                """,
                min_value=90,
                severity="warning",
                notes="None of these was ever empty in {seen} at first; a tenth of it gone is no gap.",
            ),
'''


def _mart(design: Design, count: int) -> str:
    name = design.names.mart
    numbers = [field for field in design.fields if field in design.typed and field.mean is not None][:_MOST_COLUMNS]
    judged = "".join(_mean(field, count) for field in numbers)
    imports = "import great_expectations.expectations as gxe\n" if numbers else ""
    key = ", ".join(_quoted(column) for column in design.mart_key)
    return f'''"""marts.{name}: the records as a whole stay near what they were."""

import great_expectations as gx
{imports}
from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ({key}{"," if len(design.mart_key) == 1 else ""})


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="{name}",
        expectations=[
            *_marts.volume("{name}", history),
{judged}        ],
    )
'''


def _mean(field: Field, count: int) -> str:
    assert field.mean is not None
    assert field.low is not None
    assert field.high is not None
    if field.low >= 0 and field.mean > 0:
        low, high, why = field.mean / 2, field.mean * 2, "half or double is another unit or other data"
    else:
        span = field.high - field.low or Decimal(1)
        low, high, why = field.low - span, field.high + span, "far beyond all values is another unit"
    seen = f"Mean {_number(field.mean)} in {count:,} record{'' if count == 1 else 's'} at first"
    return f"""            gxe.ExpectColumnMeanToBeBetween(
                column="{field.name}",
                min_value={_number(low)},
                max_value={_number(high)},
                severity="warning",
                notes="{seen}; {why}.",
            ),
"""


def _outcomes(design: Design) -> str:
    name = design.names.outcomes
    return f'''"""marts.{name}: few enough of the records that no release has yet were rejected."""

import great_expectations as gx

from expectations.history import History
from expectations.measure import ExpectMeasureToBeBetween

GATE = "marts"
KEY = ("source", "content_hash", "line")


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    new_records = history.unreleased("{name}", "loaded_at")
    rejected = "count(*) filter (where outcome = 'rejected')"
    return gx.ExpectationSuite(
        name="{name}",
        expectations=[
            ExpectMeasureToBeBetween(
                measure="rejected_pct",
                query=f"""
                    select
                        coalesce({{history.stopping_percent(rejected, "count(*)")}}, 0),
                        count(*) as element_count,
                        {{rejected}} as unexpected_count
                    from {{{{batch}}}}
                    where {{new_records}} and {{history.judged_together("source")}}
                """,
                max_value=history.failure_threshold_percent,
                notes="FAILURE_THRESHOLD_PERCENT, over the records that no release has yet.",
            ),
        ],
    )
'''


def _number(value: Decimal) -> str:
    """Three digits of it, as Python writes them."""
    number = float(f"{value:.3g}")
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _quoted(name: str) -> str:
    return f'"{name}"'


def _tuple(names: Sequence[str]) -> str:
    """A tuple as the formatter leaves it."""
    if len(names) == 1:
        return f"({_quoted(names[0])},)"
    return "(\n" + "".join(f"    {_quoted(name)},\n" for name in names) + ")"
