"""Values that break a rule. Each breaks the rule of its own field and no other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sample_data.people import Dice

EMAIL_NOT_UNIQUE = "email_not_unique"

# Stands for a field that is not there: an empty CSV field, a JSON object without the key.
ABSENT = object()


@dataclass(frozen=True)
class Defect:
    """A value that `field` must not have; `kinds` are the kinds of file that can hold it."""

    name: str
    field: str
    value: Any
    kinds: tuple[str, ...] = ("csv", "json")

    @property
    def rule(self) -> str:
        """The rule that the value breaks: one a field, named after its column."""
        return {"joinDate": "join_date", "isActive": "is_active"}.get(self.field, self.field)

    def spoil(self, fields: dict[str, Any]) -> None:
        """Put the value into `fields`."""
        if self.value is ABSENT:
            fields.pop(self.field, None)
        else:
            fields[self.field] = self.value


_JSON = ("json",)
_CSV = ("csv",)

DEFECTS = (
    Defect("id_absent", "id", ABSENT),
    Defect("id_null", "id", None, _JSON),
    Defect("id_empty", "id", "", _JSON),
    Defect("name_absent", "name", ABSENT),
    Defect("name_empty", "name", "", _JSON),
    Defect("name_blank", "name", "  \t\u00a0 "),
    Defect("name_of_one_letter", "name", " J "),
    Defect("name_of_101_letters", "name", "Anna-" * 20 + "B"),
    Defect("email_absent", "email", ABSENT),
    Defect("email_without_at", "email", "ann.bell.example.com"),
    Defect("email_without_local_part", "email", "@example.com"),
    Defect("email_without_domain", "email", "ann.bell@"),
    Defect("email_with_two_at", "email", "ann@@example.com"),
    Defect("email_with_space_inside", "email", "ann bell@example.com"),
    Defect("age_absent", "age", ABSENT),
    Defect("age_15", "age", 15),
    Defect("age_101", "age", 101),
    Defect("age_not_whole", "age", 30.5),
    Defect("age_negative", "age", -34),
    Defect("age_with_letters", "age", "30abc"),
    Defect("age_in_words", "age", "thirty"),
    Defect("age_true", "age", True, _JSON),
    Defect("department_absent", "department", ABSENT),
    Defect("department_unknown", "department", "Legal"),
    Defect("department_misspelt", "department", "Enginering"),
    Defect("salary_absent", "salary", ABSENT),
    Defect("salary_zero", "salary", 0),
    Defect("salary_negative", "salary", -5),
    Defect("salary_over_a_million", "salary", 1_000_001),
    Defect("salary_broken_commas", "salary", "$1,2,3"),
    Defect("salary_with_letter", "salary", "85k"),
    Defect("join_date_absent", "joinDate", ABSENT),
    Defect("join_date_no_date", "joinDate", "not-a-date"),
    Defect("join_date_far_future", "joinDate", "2999-12-31"),
    Defect("join_date_no_leap_year", "joinDate", "2023-02-29"),
    Defect("join_date_no_such_day", "joinDate", "31/04/2023"),
    Defect("join_date_two_readings", "joinDate", "03/04/2023"),
    Defect("is_active_absent", "isActive", ABSENT),
    Defect("is_active_maybe", "isActive", "maybe"),
    Defect("is_active_two", "isActive", 2),
    Defect("metadata_array", "metadata", ["remote", 3]),
    Defect("metadata_text", "metadata", "remote"),
    Defect("metadata_number", "metadata", 7),
    Defect("metadata_cut", "metadata", '{"office": "Lakes', _CSV),
)


def deal_defects(dice: Dice, kind: str) -> Iterator[Defect]:
    """The defects that a file of `kind` can hold, shuffled and over again, so that none is left out."""
    defects = [defect for defect in DEFECTS if kind in defect.kinds]
    while True:
        dice.shuffle(defects)
        yield from defects


def next_but_id(deal: Iterator[Defect]) -> Defect:
    """The next defect of `deal` that leaves the record its id."""
    return next(defect for defect in deal if defect.field != "id")


def several_defects(dice: Dice, kind: str) -> tuple[Defect, ...]:
    """Two to five defects of one record, each in a field of its own."""
    defects = [defect for defect in DEFECTS if kind in defect.kinds]
    dice.shuffle(defects)
    by_field = {defect.field: defect for defect in defects}
    return tuple(by_field.values())[: dice.between(2, 5)]


def every_field_wrong(kind: str) -> tuple[Defect, ...]:
    """One defect for every field: a record that breaks every rule at once."""
    return tuple({defect.field: defect for defect in DEFECTS if kind in defect.kinds}.values())
