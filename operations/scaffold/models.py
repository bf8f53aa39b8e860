"""The dbt files of a new source: its table, and its records on their way from staging to a mart."""

from collections.abc import Sequence

from operations.scaffold import properties, sql
from operations.scaffold.design import GRAIN, Design, plain, words
from operations.scaffold.edits import scalar


def files(design: Design) -> dict[str, str]:
    """Path below models/ and text of every new model, each before what reads it."""
    names = design.names
    staging = f"staging/{names.domain}/{names.staging}"
    judged = f"intermediate/{names.domain}/{names.judged}"
    marts = f"marts/{names.domain}/"
    return {
        f"{staging}.yml": properties.staging(design),
        f"{staging}.sql": sql.staging_json(design) if design.is_json else sql.staging_columns(design),
        f"{judged}.yml": properties.judged(design),
        f"{judged}.sql": sql.judged(design),
        f"{marts}{names.outcomes}.yml": properties.outcomes(design),
        f"{marts}{names.outcomes}.sql": sql.outcomes(design),
        f"{marts}{names.rejected}.yml": properties.rejected(design),
        f"{marts}{names.rejected}.sql": sql.rejected(design),
        f"{marts}{names.mart}.yml": properties.mart(design),
        f"{marts}{names.mart}.sql": sql.mart(design),
    }


def table(design: Design, raw: Sequence[str]) -> list[str]:
    """The table of raw in the file of sources, as an item of a list; `raw` are its columns."""
    told, grain, line = GRAIN[design.kind]
    place = "URL of the page." if design.kind == "api" else "File relative to the root."
    version = "page body" if design.kind == "api" else "file version"
    columns = [(name, "varchar", f"{words(name)}, as the source wrote it.") for name in raw]
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
        f"  description: {scalar(f'{words(design.names.things)} of {plain(design.names.system)}, {told}. {grain}')}",
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
