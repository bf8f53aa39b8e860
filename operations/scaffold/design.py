"""What the files of a new source are made from."""

from dataclasses import dataclass

from operations.scaffold.fields import KINDS, Field
from operations.scaffold.names import Names, unused

# The columns that every record carries: group, type, description.
LINEAGE = {
    "load_id": ("ids", "varchar", "The load that brought the record."),
    "run_id": ("ids", "varchar", "The run of that load."),
    "source": ("text", "varchar", "Key of the source in penstock.yml."),
    "location": ("text", "varchar", "Where the record stood, a file relative to the root or the URL of a page."),
    "content_hash": ("text", "varchar", "SHA-256 of the file version or page body."),
    "line": ("numerics", "bigint", "Line of the file, or item of the array or page."),
    "loaded_at": ("timestamps", "timestamp with time zone", "Start of the run that loaded it, UTC."),
}
# Of each kind: what it is, its grain, what a line of it is.
GRAIN = {
    "csv": ("CSV files", "One row per data line of a file.", "Physical line in the file."),
    "json": ("JSON files", "One row per record of a file.", "Line of the file, or item of its array."),
    "parquet": ("Parquet files", "One row per row of a file.", "Row of the file, from 1."),
    "api": ("an API", "One row per item of a page.", "Item on the page, from 1."),
}


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


def plain(name: str) -> str:
    """A name in words."""
    return name.replace("_", " ")


def words(name: str) -> str:
    """A name as the beginning of a sentence."""
    text = plain(name)
    return text[:1].upper() + text[1:]
