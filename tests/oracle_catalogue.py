"""What the catalogue's marts must hold, worked out from the records by other means than SQL."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_TAGS = {
    *("a", "b", "br", "code", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "i", "img", "li", "ol", "p", "pre"),
    *("span", "strong", "sub", "sup", "table", "tbody", "td", "th", "tr", "u", "ul"),
}
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9]*)(?:[ \n/][^<>]*)?>")


@dataclass
class Catalogue:
    """The marts: rows of `datasets` by slug, pairs of slug and keyword, publishers and the slugs that they manage."""

    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    keywords: set[tuple[str, str]] = field(default_factory=set)
    publishers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def fold(text: object) -> str | None:
    """The text on one line, None where nothing is left."""
    return (
        " ".join(str(text).replace("\u200b", " ").replace("\ufeff", " ").split()) or None if text is not None else None
    )


def label(text: str) -> str:
    """The text with every link [label](address) as its label, found from the left by looking for the brackets."""
    found, place = "", 0
    while True:
        start = text.find("[", place)
        if start < 0:
            return found + text[place:]
        middle = text.find("](", start)
        end = text.find(")", middle)
        inner, address = text[start + 1 : middle], text[middle + 2 : end]
        if middle < 0 or end < 0 or not inner or any(sign in inner for sign in "[]") or any(s in address for s in "( "):
            found, place = found + text[place : start + 1], start + 1
        else:
            found, place = found + text[place:start] + inner, end + 1


def listed(value: Any) -> list[Any]:
    """A list as it is, one value as a list of it, None as an empty one."""
    return [] if value is None else value if isinstance(value, list) else [value]


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return fold(value) if isinstance(value, str | int | float) else None


def _plain(text: object) -> str | None:
    if text is None:
        return None
    return fold(_TAG.sub(lambda tag: " " if tag[1].lower() in _TAGS else tag[0], str(text)))


def read_catalogue(records: Iterable[Mapping[str, Any]]) -> Catalogue:
    """The marts of records that break no rule."""
    catalogue = Catalogue()
    for record in records:
        slug = record["slug"]
        publishers = [label(text) for value in listed(record.get("ManagedBy")) if (text := _text(value))]
        licences = [label(text) for value in listed(record.get("License")) if (text := _text(value))]
        keywords = {text.lower() for value in listed(record.get("Tags")) if (text := _text(value))}
        resources = listed(record.get("Resources"))
        at_work = record.get("DataAtWork")
        sections = at_work.values() if isinstance(at_work, dict) else []
        works = [work for section in sections for work in listed(section) if isinstance(work, dict)]
        notice = fold(record.get("DeprecatedNotice"))
        catalogue.datasets[slug] = {
            "name": fold(record["Name"]),
            "description": _plain(record.get("Description")),
            "publisher": publishers[0] if publishers else None,
            "licence": licences[0],
            "update_frequency": fold(record.get("UpdateFrequency")),
            "deprecated_notice": notice,
            "count_keywords": len(keywords),
            "count_resources": len(resources),
            "count_formats": len({kind for each in resources if (kind := fold(each.get("Type")))}),
            "count_authors": len({name for work in works if (name := fold(work.get("AuthorName")))}),
            "is_deprecated": record.get("Deprecated") is True or notice is not None,
        }
        catalogue.keywords |= {(slug, keyword) for keyword in keywords}
        for publisher in publishers:
            catalogue.publishers[publisher].add(slug)
    return catalogue
