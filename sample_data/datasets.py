"""An invented catalogue of data sets, one record a line: `python -m sample_data.datasets [--seed N] [--out DIR]`.

Beside datasets.ndjson it writes expected.json: what was put in, counted while it was. The bytes are the same each time.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sample_data.people import Dice

SEED = 2026
COUNT_DATASETS = 120
FOLDER = Path(__file__).parent / "catalogue"

# Stands for a field that is not there.
_ABSENT = object()

_PLACES = (
    "Lakeland", "Northmoor", "Port Alder", "the Ember Coast", "Vale of Ruun", "São Brisa", "Østermark", "Halcyon Bay",
    "the Tarn Islands", "Górna Dolina", "東町", "Ruby Basin",
)  # fmt: skip
_SUBJECTS = (
    ("Tide Gauges", "oceans", "water level"),
    ("River Discharge", "hydrology", "water level"),
    ("Street Trees", "urban", "biology"),
    ("Air Quality Sensors", "air quality", "urban"),
    ("Bird Counts", "biology", "ecosystems"),
    ("Radar Mosaics", "weather", "radar"),
    ("Satellite Scenes", "earth observation", "satellite imagery"),
    ("Soil Cores", "agriculture", "soil"),
    ("Tram Movements", "transport", "real time"),
    ("Spoken Dialects", "speech", "machine learning"),
    ("Genome Assemblies", "life sciences", "RNA-seq"),
    ("Night Sky Images", "astronomy", "Machine Learning"),
)
_PUBLISHERS = (
    "[Institute of Open Waters](https://waters.example.org/)",
    "[Alder Data Office](https://data.alder.example/)",
    "Northmoor Survey",
    "The Sky Archive ([SKA](https://sky.example.net)) at Halcyon",
    "[Université d'Été](https://ete.example.fr/) and [Óbuda Lab](https://obuda.example.hu/)",
    "Ruun Agricultural Board",
    "[東町 Library](https://library.example.jp/)",
    "Tarn Volunteers",
)
_LICENCES = (
    "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/)",
    "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY 4.0",
    "There are no restrictions on the use of these data.\n",
    "Open to the public.<br/> <br/>Please name the source.",
)
_FREQUENCIES = (
    "Daily", "daily", "Monthly", "Every 15 minutes", "Never", "None", "As needed", "Not updated",
    "New scenes are added within a day,\nolder ones are processed anew each spring.", "Annually (in May)",
)  # fmt: skip
_CONTACTS = (
    "data@waters.example.org", "help@alder.example, map@alder.example", "https://survey.example.net/contact",
    "Ask [the desk](https://desk.example.com) or write to desk@example.com.\n", "info@tarn.example",
)  # fmt: skip
_FORMATS = ((8, "S3 Bucket"), (3, "Web Service"), (2, "SNS Topic"), (1, "File Server"))
_AUTHORS = ("A. Bell", "Renée Dvořák, Tom Marsh & others", "李娜", "Marsh et al. (2024)", "O'Neil, K.")

# What a record must not be: the field, the value that breaks it, and the rule that tells so.
_DEFECTS: tuple[tuple[str, Any, str], ...] = (
    ("Name", _ABSENT, "name_missing"),
    ("Name", " \n", "name_missing"),
    ("License", _ABSENT, "licence_missing"),
    ("License", None, "licence_missing"),
    ("Resources", "see the website", "resources_unreadable"),
    ("Tags", {"tag": "oceans"}, "keywords_unreadable"),
    ("Deprecated", "perhaps", "deprecated_unreadable"),
)


class _Catalogue:
    """Invents the records one after the other, and counts what is odd about them."""

    def __init__(self, seed: int) -> None:
        self.dice = Dice(seed)
        self.oddities: Counter[str] = Counter()

    def records(self) -> list[dict[str, Any]]:
        """All records, the defects not yet in them."""
        titles = [(subject, place) for subject in _SUBJECTS for place in _PLACES]
        self.dice.shuffle(titles)
        return [self._record(number, *title) for number, title in enumerate(titles[:COUNT_DATASETS], start=1)]

    def _record(self, number: int, subject: tuple[str, str, str], place: str) -> dict[str, Any]:
        name = f"{subject[0]} of {place}"
        if self._odd(6, "name_with_spaces"):
            name = f" {name.replace(' ', '  ')} "
        elif self._odd(4, "name_repeated"):
            name = "Reference Collection"
        record: dict[str, Any] = {
            "slug": f"{subject[0].lower().replace(' ', '-')}-{number:03}",
            "Name": name,
            "Description": self._description(subject[0], place),
            "Documentation": f"https://docs.example.org/{number}",
            "Contact": self.dice.pick(_CONTACTS),
            "ManagedBy": self.dice.pick(_PUBLISHERS),
            "UpdateFrequency": self.dice.pick(_FREQUENCIES),
            "Tags": self._tags(subject),
            "License": self._licence(),
            "Resources": self._resources(number),
        }
        self._deprecate(record)
        if self.dice.chance(60):
            record["DataAtWork"] = {
                kind: self._works(kind) for kind in ("Tutorials", "Tools & Applications", "Publications")
            }
        if self.dice.chance(20):
            record["Citation"] = f"{place} ({2015 + number % 10})" if self.dice.chance(80) else None
        return record

    def _odd(self, percent: float, oddity: str) -> bool:
        is_odd = self.dice.chance(percent)
        self.oddities[oddity] += is_odd
        return is_odd

    def _description(self, subject: str, place: str) -> str:
        text = f"{subject} of {place}, measured since {self.dice.between(1950, 2020)}."
        if self._odd(60, "description_of_lines"):
            text += "\nEvery station keeps its own series;\ngaps are left as they are.\n"
        if self._odd(30, "description_with_html"):
            text += '<br/><br/> See <a href="https://docs.example.org/">the <b>manual</b></a>, where p < 0.05.'
        if self._odd(25, "description_beyond_ascii"):
            text += " Daten für Forschung – “frei”, ≥ 95 % vollständig. 🌊"
        return text

    def _tags(self, subject: tuple[str, str, str]) -> Any:
        tags: list[Any] = ["open data", *subject[1:]]
        if self._odd(8, "tag_repeated"):
            tags.append(subject[1].upper())
        if self._odd(5, "tag_null"):
            tags.append(None)
        if self._odd(4, "tags_null"):
            return None
        return subject[1] if self._odd(5, "tags_one_value") else tags

    def _licence(self) -> Any:
        licence = self.dice.pick(_LICENCES)
        return [licence, _LICENCES[0]] if self._odd(6, "licence_list") else licence

    def _resources(self, number: int) -> Any:
        if self._odd(3, "resources_null"):
            return None
        found = []
        for place in range(self.dice.between(1, 4)):
            resource: dict[str, Any] = {
                "Description": f"Part {place + 1}",
                "ARN": f"arn:example:::set-{number}-{place}",
                "Region": self.dice.pick(("eu-1", "us-2")),
                "Type": self.dice.weigh(_FORMATS),
            }
            if self.dice.chance(40):
                resource["RequesterPays"] = self.dice.chance(20)
            if self.dice.chance(25):
                resource["Explore"] = ["[Browse](https://browse.example.org)"] if self.dice.chance(90) else None
            if self._odd(2, "resource_with_host"):
                resource["Host"] = "files.example.org"
            found.append(resource)
        return found[0] if self._odd(4, "resources_one_object") else found

    def _deprecate(self, record: dict[str, Any]) -> None:
        if self._odd(8, "deprecated"):
            if self.dice.chance(70):
                record["Deprecated"] = True
            record["DeprecatedNotice"] = "These data are not kept up any more.\n"
        elif self._odd(10, "deprecated_notice_null"):
            record["DeprecatedNotice"] = None

    def _works(self, kind: str) -> Any:
        if self.dice.chance(25):
            return None
        works = []
        for number in range(self.dice.between(1, 3)):
            work: dict[str, Any] = {
                "Title": f"{kind} {number + 1}",
                "URL": f"https://works.example.org/{number}",
                "AuthorName": self.dice.pick(_AUTHORS),
            }
            if self.dice.chance(40):
                work["AuthorURL"] = "https://people.example.org" if self.dice.chance(80) else None
            works.append(work)
        return works


def generate(seed: int = SEED) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of every file, expected.json last."""
    catalogue = _Catalogue(seed)
    records = catalogue.records()
    places = list(range(len(records)))
    catalogue.dice.shuffle(places)
    rejected = {}
    for place, (field, value, rule) in zip(places, _DEFECTS, strict=False):
        record = records[place]
        if value is _ABSENT:
            del record[field]
        else:
            record[field] = value
        rejected[record["slug"]] = [rule]
    expected = {
        "seed": seed,
        "listed": len(records),
        "accepted": len(records) - len(rejected),
        "rejected": dict(sorted(rejected.items())),
        "oddities": dict(sorted(catalogue.oddities.items())),
    }
    yield "datasets.ndjson", "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    yield "expected.json", (json.dumps(expected, ensure_ascii=False, indent=2) + "\n").encode()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the catalogue into the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m sample_data.datasets", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help=f"another seed, other data sets (default {SEED})")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write into (default sample_data/catalogue)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in generate(options.seed):
        (options.out / name).write_bytes(content)


if __name__ == "__main__":
    main()
