"""How sources write clean values: in odd case, with odd white space, as text or number, in one of many formats.

Every function gives the value as it stands in the file and the name of its oddity, which is empty for the plain way.
"""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from sample_data.people import Dice, Person

NO_BREAK_SPACE = "\u00a0"
IDEOGRAPHIC_SPACE = "\u3000"

_ALIASES = {
    "Engineering": ("eng", "dev", "engineering"),
    "Sales": ("sales",),
    "Marketing": ("mktg", "marketing"),
    "HR": ("hr", "human resources"),
    "Finance": ("finance", "accounting"),
}
_TRUE = ("true", "1", "yes", "active")
_FALSE = ("false", "0", "no", "inactive")
# Written out because strftime's month names follow the machine's language.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def spell_name(dice: Dice, name: str) -> tuple[str, str]:
    """`name` in another case, or with white space around or inside."""
    oddity = dice.weigh(
        ((78, ""), (5, "lower"), (3, "upper"), (4, "around"), (4, "double"), (2, "tab"), (2, "no_break"), (2, "wide"))
    )
    spelled = {
        "lower": name.lower(),
        "upper": name.upper(),
        "around": f"  {name} ",
        "double": name.replace(" ", "   "),
        "tab": f"\t{name}".replace(" ", "\t"),
        "no_break": name.replace(" ", NO_BREAK_SPACE) + NO_BREAK_SPACE,
        "wide": name.replace(" ", IDEOGRAPHIC_SPACE),
    }.get(oddity, name)
    return spelled, f"name_{oddity}" if spelled != name else ""


def spell_email(dice: Dice, email: str) -> tuple[str, str]:
    """`email` in another case, or with white space around it."""
    oddity = dice.weigh(((82, ""), (6, "upper"), (4, "title"), (4, "around"), (2, "tab"), (2, "no_break")))
    spelled = {
        "upper": email.upper(),
        "title": email[0].upper() + email[1:],
        "around": f" {email}  ",
        "tab": f"{email}\t",
        "no_break": NO_BREAK_SPACE + email,
    }.get(oddity, email)
    return spelled, f"email_{oddity}" if oddity else ""


def spell_age(dice: Dice, age: int, *, is_json: bool) -> tuple[Any, str]:
    """A number, in JSON also as text."""
    if is_json:
        return (str(age), "age_text") if dice.chance(15) else (age, "")
    return str(age), ""


def spell_department(dice: Dice, department: str) -> tuple[str, str]:
    """One of the department's aliases, in any case, at times with white space around it."""
    if dice.chance(55):
        return department, ""
    alias = dice.pick(_ALIASES[department])
    alias = dice.pick((alias, alias.upper(), alias.title(), alias[0] + alias[1:].upper()))
    if dice.chance(15):
        return dice.pick((f" {alias}", f"{alias}  ", f"\t{alias}", alias + NO_BREAK_SPACE)), "department_around"
    return alias, "department_alias" if alias != department else ""


def spell_salary(dice: Dice, cents: int, *, is_json: bool) -> tuple[Any, str]:
    """Dollars as a number or as text, with or without `$`, thousands commas and cents."""
    dollars, rest = divmod(cents, 100)
    if is_json and dice.chance(60):
        return (cents / 100 if rest else dollars), ""
    plain = f"{dollars}.{rest:02d}" if rest else f"{dollars}"
    oddity = dice.weigh(((50, ""), (12, "cents"), (22, "dollar_commas"), (8, "commas"), (8, "dollar")))
    spelled = {
        "cents": f"{dollars}.{rest:02d}",
        "dollar_commas": f"${dollars:,}.{rest:02d}",
        "commas": f"{dollars:,}.{rest:02d}" if rest else f"{dollars:,}",
        "dollar": f"${plain}",
    }.get(oddity, plain)
    return spelled, f"salary_{oddity}" if spelled != plain else ("salary_text" if is_json else "")


def spell_date(dice: Dice, day: date) -> tuple[str, str]:
    """`day` as yyyy-MM-dd or in another format that can be read in one way only."""
    options = [(80, ""), (6, "slashes"), (5, "month_name"), (3, "timestamp_utc"), (3, "timestamp")]
    if day.day > 12:  # 25/12/2023 has one reading, 03/04/2023 has two
        options.append((6, "day_first"))
    oddity = dice.weigh(options)
    spelled = {
        "slashes": f"{day.year}/{day.month:02d}/{day.day:02d}",
        "month_name": f"{day.day} {_MONTHS[day.month - 1]} {day.year}",
        "timestamp_utc": f"{day.isoformat()}T09:30:00Z",
        "timestamp": f"{day.isoformat()}T14:00:00",
        "day_first": f"{day.day:02d}/{day.month:02d}/{day.year}",
    }.get(oddity, day.isoformat())
    return spelled, f"join_date_{oddity}" if oddity else ""


def spell_flag(dice: Dice, flag: bool, *, is_json: bool) -> tuple[Any, str]:
    """True or false as a word or number in any case, in JSON mostly as itself."""
    if is_json and dice.chance(70):
        return flag, ""
    if is_json and dice.chance(30):
        return int(flag), "is_active_number"
    word = dice.pick(_TRUE if flag else _FALSE)
    word = dice.pick((word, word, word.upper(), word.title()))
    return word, "is_active_word" if is_json or word not in ("true", "false") else ""


def spell_instant(dice: Dice, instant: datetime, *, may_be_naive: bool) -> tuple[str, str]:
    """`instant` (UTC) as an ISO timestamp in UTC, at an offset, or without any where nothing hangs on it."""
    options = [(70, ""), (12, "offset_ahead"), (8, "offset_behind"), (6, "milliseconds")]
    if may_be_naive:
        options.append((4, "naive"))
    oddity = dice.weigh(options)
    utc = instant.replace(tzinfo=UTC)
    spelled = {
        "offset_ahead": utc.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat(),
        "offset_behind": utc.astimezone(timezone(timedelta(hours=-7))).isoformat(),
        "milliseconds": f"{instant.isoformat()}.000Z",
        "naive": instant.isoformat(sep=" "),
    }.get(oddity, f"{instant.isoformat()}Z")
    return spelled, f"updated_at_{oddity}" if oddity else ""


def spell_id(dice: Dice, identifier: str, *, is_json: bool) -> tuple[Any, str]:
    """Text, in JSON at times a number where it looks like one."""
    if is_json and identifier.isdecimal() and not identifier.startswith("0") and dice.chance(25):
        return int(identifier), "id_number"
    return identifier, "id_leading_zeros" if identifier.startswith("0") else ""


def spell_person(dice: Dice, person: Person, *, is_json: bool) -> tuple[dict[str, Any], list[str]]:
    """Every field of `person` as a source writes it (updatedAt apart), and the oddities in it."""
    spelled = {
        "id": spell_id(dice, person.id, is_json=is_json),
        "name": spell_name(dice, person.name),
        "email": spell_email(dice, person.email),
        "age": spell_age(dice, person.age, is_json=is_json),
        "department": spell_department(dice, person.department),
        "salary": spell_salary(dice, person.salary_cents, is_json=is_json),
        "joinDate": spell_date(dice, person.joined),
        "isActive": spell_flag(dice, person.is_active, is_json=is_json),
    }
    fields = {field: value for field, (value, _) in spelled.items()}
    oddities = [oddity for _, oddity in spelled.values() if oddity]
    if person.metadata is not None:
        fields["metadata"] = person.metadata
    elif is_json and dice.chance(8):
        fields["metadata"] = None
        oddities.append("metadata_null")
    else:
        oddities.append("metadata_absent")
    return fields, oddities
