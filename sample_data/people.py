"""Invented people: dice that fall the same way on every Python, names in many scripts, e-mails at example domains."""

import random
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

# Nobody joins after this day, so every run with an as-of date behind it sees the same join dates as valid.
LAST_DAY = date(2025, 12, 31)


class Dice:
    """Choices made from `random()` alone, the one method whose results Python promises never to change."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, end: int) -> int:
        """A whole number from 0 up to, but not, `end`."""
        return int(self._random() * end)

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both possible."""
        return low + self.below(high - low + 1)

    def chance(self, percent: float) -> bool:
        """True in `percent` of 100 throws."""
        return self._random() * 100 < percent

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, each as likely as the others."""
        return options[self.below(len(options))]

    def weigh(self, options: Sequence[tuple[int, T]]) -> T:
        """One of `options`, given as (weight, option)."""
        throw = self.below(sum(weight for weight, _ in options))
        for weight, option in options:
            throw -= weight
            if throw < 0:
                return option
        raise AssertionError("the weights add up to more than every throw")

    def shuffle(self, items: MutableSequence[T]) -> None:
        """Bring `items` into a random order, in place."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]


@dataclass(frozen=True)
class Person:
    """One employee with clean values, as staging should see them; salary in cents of a dollar."""

    id: str
    name: str
    email: str
    age: int
    department: str
    salary_cents: int
    joined: date
    is_active: bool
    metadata: dict[str, Any] | None


@dataclass(frozen=True)
class _Script:
    """Names that go together: what is written, and in the same order what stands in the e-mail address."""

    given: str
    given_ascii: str
    family: str
    family_ascii: str
    order: str = "{given} {family}"


_SCRIPTS: tuple[tuple[int, _Script], ...] = (
    (
        60,
        _Script(
            "Ann Ben Carla David Ella Frank Grace Henry Iris Jack Karen Liam Maya Noah Olive Paul Quinn Rosa Sam Tara "
            "Umar Vera Will Xena Yusuf Zara Amir Bianca Cyril Dora Emil Fiona Gavin Hana Ivor Jade Kofi Lena Milo Nina",
            "ann ben carla david ella frank grace henry iris jack karen liam maya noah olive paul quinn rosa sam tara "
            "umar vera will xena yusuf zara amir bianca cyril dora emil fiona gavin hana ivor jade kofi lena milo nina",
            "Archer Bell Carver Dale Ellis Fenwick Garland Hale Ingram Jarvis Kemp Lowell Marsh Norton Oakes Pryor "
            "Quill Rivers Stone Tanner Upton Vance Walsh Yates Ashby Brook Croft Drake Eaton Flint Grove Hobbs Kirby "
            "Lane Moss Nash Pike Reeve Shaw Thorne",
            "archer bell carver dale ellis fenwick garland hale ingram jarvis kemp lowell marsh norton oakes pryor "
            "quill rivers stone tanner upton vance walsh yates ashby brook croft drake eaton flint grove hobbs kirby "
            "lane moss nash pike reeve shaw thorne",
        ),
    ),
    (
        9,
        _Script(
            "Aoife Brendan Ciara Duncan Eileen Fergus Moira Rory Sheila Torin",
            "aoife brendan ciara duncan eileen fergus moira rory sheila torin",
            "O'Neil McDonald O'Brien MacLeod McKay D'Angelo O’Hara McAllister",
            "oneil mcdonald obrien macleod mckay dangelo ohara mcallister",
        ),
    ),
    (
        6,
        _Script(
            "Mary-Ann Jean-Luc Anne-Marie Karl-Heinz Li-Mei Ana-Sofia",
            "mary-ann jean-luc anne-marie karl-heinz li-mei ana-sofia",
            "Smith-Jones Lloyd-Webb Bell Hart-Davis O'Neil Moreau-Petit",
            "smith-jones lloyd-webb bell hart-davis oneil moreau-petit",
        ),
    ),
    (
        12,
        _Script(
            "José Zoë Renée Søren Łukasz Åsa Jürgen Chloé Íñigo Škoda Žofia Ángela Øyvind Éva Günther Noël",
            "jose zoe renee soren lukasz asa jurgen chloe inigo skoda zofia angela oyvind eva gunther noel",
            "Muñoz Lindström Dvořák Wiśniewska Gonçalves Müller Sørensen Çelik Núñez Ångström Łoś Ödegaard",
            "munoz lindstrom dvorak wisniewska goncalves muller sorensen celik nunez angstrom los odegaard",
        ),
    ),
    (
        4,
        _Script(
            "Иван Ольга Сергей Наталья Дмитрий Юлия",
            "ivan olga sergei natalia dmitri yulia",
            "Лебедев Морозова Ковальчук Жуков Ярова Белов",
            "lebedev morozova kovalchuk zhukov yarova belov",
        ),
    ),
    (2, _Script("Ελένη Νίκος Δάφνη", "eleni nikos dafni", "Παππά Δήμου Λάμπρου", "pappa dimou lambrou")),
    (
        3,
        _Script(
            "娜 伟 芳 小明 静 建国",
            "na wei fang xiaoming jing jianguo",
            "李 王 张 刘 陈",
            "li wang zhang liu chen",
            "{family}{given}",
        ),
    ),
    (1, _Script("花子 健 美咲", "hanako ken misaki", "佐藤 高橋 渡辺", "sato takahashi watanabe", "{family} {given}")),
    (1, _Script("민준 서연 지호", "minjun seoyeon jiho", "김 박 최", "kim park choi", "{family}{given}")),
    (1, _Script("ليلى سامي نور", "layla sami nour", "حسن عمر خليل", "hassan omar khalil")),
    (1, _Script("अनन्या रोहन मीरा", "ananya rohan meera", "शर्मा वर्मा नायर", "sharma varma nair")),
)

# Salaries in dollars from which people of a department start and up to which most of them get.
_DEPARTMENTS = (
    (40, ("Engineering", 62_000, 190_000)),
    (22, ("Sales", 38_000, 130_000)),
    (15, ("Marketing", 40_000, 125_000)),
    (9, ("HR", 36_000, 105_000)),
    (14, ("Finance", 45_000, 150_000)),
)
_DOMAINS = ((6, "example.com"), (3, "example.org"), (1, "example.net"))
_TOWNS = ("Northport", "Eastvale", "Köln-Süd", "São Bento", "Lakeside", "Świt", "東町")
_NOTES = (
    'prefers "Sam", not "Samuel"',
    "desk by the window, left side",
    "it's a job share",
    "back on Monday; half days",
    "🎉 ten years",
    "C:\\badge\\photo",
)


def invent_people(dice: Dice) -> Iterator[Person]:
    """People without end; no id and no e-mail comes twice."""
    taken: set[str] = set()
    number = 10_000
    while True:
        number += dice.between(1, 9)
        name, local_part = _invent_name(dice)
        while (email := f"{local_part}@{dice.weigh(_DOMAINS)}") in taken:
            local_part = f"{local_part.rstrip('0123456789')}{dice.between(2, 9999)}"
        taken.add(email)
        department, low, high = dice.weigh(_DEPARTMENTS)
        age = dice.between(18, 67)
        yield Person(
            id=_spell_id(dice, number),
            name=name,
            email=email,
            age=age,
            department=department,
            salary_cents=_invent_salary(dice, low, high),
            joined=_invent_join_date(dice, age),
            is_active=dice.chance(88),
            metadata=_invent_metadata(dice) if dice.chance(60) else None,
        )


def earlier_version(dice: Dice, person: Person) -> Person:
    """The same person before a raise and, at times, a new department, a new e-mail or a birthday."""
    earlier = replace(person, salary_cents=person.salary_cents // 105 * 100)
    if dice.chance(15):
        earlier = replace(earlier, department=dice.weigh(_DEPARTMENTS)[0])
    if dice.chance(15):
        local_part, domain = person.email.split("@")
        earlier = replace(earlier, email=f"{local_part}.until-{person.id.lower()}@{domain}")
    if dice.chance(40):
        earlier = replace(earlier, age=max(16, person.age - 1))
    return earlier


def _invent_name(dice: Dice) -> tuple[str, str]:
    script = dice.weigh(_SCRIPTS)
    given = dice.pick(list(zip(script.given.split(), script.given_ascii.split(), strict=True)))
    family = dice.pick(list(zip(script.family.split(), script.family_ascii.split(), strict=True)))
    return script.order.format(given=given[0], family=family[0]), f"{given[1]}.{family[1]}"


def _spell_id(dice: Dice, number: int) -> str:
    # Leading zeros and letters: an id is text, whatever most of them look like.
    hexadecimal = f"{number * 7919:x}-{number:x}x"
    return dice.weigh(((85, f"{number}"), (6, f"{number:08d}"), (6, f"EMP-{number}"), (3, hexadecimal)))


def _invent_salary(dice: Dice, low: int, high: int) -> int:
    dollars = low + (high - low) * dice.below(101) * dice.below(101) // 10_000
    if dice.chance(70):
        return dollars // 500 * 500 * 100
    return dollars * 100 + dice.below(100)


def _invent_join_date(dice: Dice, age: int) -> date:
    days = min(age - 16, 25) * 365
    return LAST_DAY - timedelta(days=dice.below(days))


def _invent_metadata(dice: Dice) -> dict[str, Any]:
    if dice.chance(3):
        return {}
    metadata: dict[str, Any] = {"office": dice.pick(_TOWNS)}
    if dice.chance(40):
        metadata["floor"] = dice.between(-1, 12)
    if dice.chance(25):
        metadata["tags"] = [dice.pick(("remote", "on-call", "mentor", "first aid")) for _ in range(dice.between(0, 2))]
    if dice.chance(15):
        metadata["manager"] = {"id": str(dice.between(10_000, 20_000)), "since": dice.between(2015, 2025)}
    if dice.chance(12):
        metadata["note"] = dice.pick(_NOTES)
    if dice.chance(8):
        metadata["share"] = dice.pick((0.5, 0.75, 1.0))
    return metadata
