"""Settings: the environment, then `penstock.yml`, then the defaults below. `penstock.schema.json` is made from here."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator

from foundation.checks import misfits
from foundation.errors import ConfigError
from foundation.postgres import PostgresWarehouse, Warehouse
from foundation.sources import (
    AUTH_KINDS,
    CHARACTER,
    IDENTIFIER,
    SOURCE_KINDS,
    SOURCE_NAME,
    SOURCE_SECTIONS,
    AnySource,
    ApiSource,
    Identifier,
    Seconds,
    Section,
    Source,
)

CONFIG_FILE = "penstock.yml"
# What a value names of the environment.
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Export(Section):
    """Files written beside the published table."""

    formats: list[Literal["csv", "json", "parquet"]] = Field(min_length=1)
    columns: dict[str, str] = Field(
        default_factory=dict, description="Column: heading, in this order, for CSV; empty: every column under its name."
    )
    neutralise_formulas: bool = Field(
        True, description="In CSV, put ' before a text that a spreadsheet would take for a formula."
    )


class Output(Section):
    """A mart that readers get as a Postgres table."""

    key: list[Identifier] = Field(min_length=1, description="Columns of the primary key.")
    unknown_member: str | None = Field(
        None, description="Key of the row that stands for what no record tells of; the books count it apart."
    )
    unique: list[Identifier] = Field(default_factory=list)
    indexes: list[Identifier] = Field(default_factory=list)
    json_columns: list[Identifier] = Field(
        default_factory=list, description="Text columns that hold JSON and become jsonb."
    )
    export: Export | None = None


class Retention(Section):
    """Which releases can be read, compared and restored."""

    count: int = Field(30, ge=1, le=100_000, description="So many of the newest.")
    days: float = Field(90, gt=0, le=36_500, description="None older than this, except the one that is shown.")


class Roles(Section):
    """Roles of the publish target that cannot log in; made where that is allowed. null: do without."""

    publisher: Identifier | None = Field("penstock_publisher", description="Owns what is published, and no more.")
    reader: Identifier | None = Field("penstock_reader", description="Reads marts, their history and the releases.")


class Switches(Section):
    """Steps of the build that can be left out one by one."""

    normalization: bool = True
    validation: bool = True
    deduplication: bool = True
    enrichment: bool = True


class Settings(Section):
    """All that a run needs to know. A field in capitals in the environment wins over the file."""

    database_url: SecretStr | None = Field(None, description="Publish target; unset: an embedded Postgres is started.")
    database_schema: str = Field("public", pattern=IDENTIFIER, description="Schema of the published tables.")
    warehouse_url: SecretStr | None = Field(
        None, description="Postgres database as the warehouse, postgresql://...; unset: a DuckDB file in work_dir."
    )
    api_base_url: str | None = Field(None, description="Unset: the bundled sample API is started while ingesting.")
    api_key: SecretStr | None = None
    batch_size: int = Field(
        1000, ge=1, le=1_000_000, description="Records asked for in one API page where pagination names no size."
    )
    max_retries: int = Field(3, ge=1, le=20, description="Tries of one request in all.")
    concurrency: int = Field(4, ge=1, le=64)
    progress_update_ms: int = Field(2000, ge=50, le=600_000)
    failure_threshold_percent: float = Field(
        10,
        ge=0,
        le=100,
        description="More failed records than this since the last release, of all sources without a threshold of their "
        "own: nothing is published.",
    )
    failure_warning_percent: float | None = Field(
        None, ge=0, le=100, description="More than this: a warning; unset: half of failure_threshold_percent."
    )
    failure_min_records: int = Field(
        20,
        ge=1,
        le=1_000_000_000,
        description="Fewer records than this since the last release stop no run, whatever their share; they warn. "
        "1: any number does.",
    )
    allowed_roots: list[str] | None = Field(
        None,
        description="Folders or addresses that files may lie in besides the project, links followed; unset: the folder "
        "that a source's own path names.",
    )
    work_dir: Path = Field(Path(".penstock"), description="Warehouse, logs, state and the embedded Postgres.")
    temp_dir: Path | None = Field(None, description="Large temporary files; default: tmp in work_dir.")
    output_dir: Path = Field(Path("exports"), description="Exported files.")
    site_dir: Path = Path("site")
    lock_timeout_seconds: Seconds = Field(
        10.0, description="How long publishing waits for a table that a reader holds."
    )
    statement_timeout_seconds: Seconds = Field(
        3600.0, description="How long one statement of a publish may take in the target."
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "critical", description="Of the structured log on stderr; the files in work_dir/logs hold it from info on."
    )
    switches: Switches = Switches()
    retention: Retention = Retention()
    roles: Roles = Roles()
    sources: dict[Annotated[str, Field(pattern=SOURCE_NAME, max_length=60)], Source] = Field(default_factory=dict)
    outputs: dict[Annotated[str, Field(pattern=IDENTIFIER, max_length=60)], Output] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _temp_dir_default(self) -> "Settings":
        if self.temp_dir is None:
            object.__setattr__(self, "temp_dir", self.work_dir / "tmp")
        return self

    @property
    def warehouse(self) -> Warehouse:
        """The DuckDB file, or the Postgres database."""
        if self.warehouse_url is not None:
            return PostgresWarehouse(self.warehouse_url.get_secret_value(), self.temporary)
        return self.work_dir / "warehouse.duckdb"

    @property
    def temporary(self) -> Path:
        """`temp_dir`, which the default has filled."""
        assert self.temp_dir is not None
        return self.temp_dir

    @property
    def warning_percent(self) -> float:
        """`failure_warning_percent`, or its default."""
        if self.failure_warning_percent is None:
            return self.failure_threshold_percent / 2
        return self.failure_warning_percent

    def secrets(self) -> list[str]:
        """Every secret value in use, for the places that must leave them out."""
        held = [self.database_url, self.warehouse_url, self.api_key]
        for source in self.sources.values():
            if isinstance(source, ApiSource):
                held += source.secrets()
        inner = self.warehouse.secrets() if isinstance(self.warehouse, PostgresWarehouse) else []
        return [value.get_secret_value() for value in held if value is not None and value.get_secret_value()] + inner


def load_settings(root: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of the project at `root`, with every path made absolute.

    Raises ConfigError with the key, the value and what is allowed.
    """
    environment = os.environ if environment is None else environment
    file = root / CONFIG_FILE
    document, lines = _read_yaml(file)
    values: dict[str, Any] = dict(document)
    from_environment = {
        name: environment[name.upper()]
        for name, field in Settings.model_fields.items()
        if name.upper() in environment and environment[name.upper()] != "" and not _is_section(field.annotation)
    }
    values.update(from_environment)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise _config_error(error, file, lines, from_environment) from None
    thresholds = (settings.failure_threshold_percent, settings.failure_warning_percent)
    for found in misfits(settings.sources, *thresholds):
        is_set = found.place[0] in from_environment
        key = found.place[0].upper() if is_set else ".".join(found.place)
        where = "environment" if is_set else _where(found.place, file, lines)
        raise ConfigError(f"{key} {found.what}", where=where, fix=found.fix)
    paths = {
        name: (root / path).absolute()
        for name in ("work_dir", "temp_dir", "output_dir", "site_dir")
        if (path := getattr(settings, name)) is not None
    }
    return settings.model_copy(update=paths)


def expand(text: str, known: Mapping[str, str], key: str) -> str:
    """`text`, the value of `key`, with every ${NAME} replaced from `known`.

    Raises ConfigError for a name that is not there. The text is not told: beside a name there may stand a secret.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in known:
            raise ConfigError(f"{name} is not set", where=f"{key} in {CONFIG_FILE}", fix="set it in the environment")
        return known[name]

    return VARIABLE.sub(value, text)


def _is_section(annotation: Any) -> bool:
    return annotation in (Switches, Retention, Roles) or any(kind in str(annotation) for kind in ("dict", "list"))


def _read_yaml(file: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {CONFIG_FILE}", where=str(file.parent), fix="run from the project's root, or pass --root"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{CONFIG_FILE} cannot be read: {error}", where=str(file), fix="mend the file") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(file)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"not valid YAML: {problem}", where=where, fix="mend that line") from None
    if document is None:
        return {}, {}
    if not isinstance(document, dict):
        raise ConfigError("the settings are not `key: value` pairs", where=str(file), fix="see penstock.schema.json")
    lines: dict[tuple[str, ...], int] = {}
    _note_lines(node, (), lines, file)
    return document, lines


def _note_lines(node: Any, path: tuple[str, ...], lines: dict[tuple[str, ...], int], file: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*path, str(key.value))
            if place in lines:
                raise ConfigError(
                    f"{'.'.join(place)} is there twice", where=f"{file}, line {key.start_mark.line + 1}", fix="keep one"
                )
            lines[place] = key.start_mark.line + 1
            _note_lines(value, place, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*path, str(index)), lines, file)


def _config_error(
    error: ValidationError, file: Path, lines: Mapping[tuple[str, ...], int], from_environment: Mapping[str, str]
) -> ConfigError:
    found = error.errors(include_url=False)
    # A misspelt key is also a missing one; the misspelling is what helps.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    place = tuple(str(part) for part in first["loc"] if part != "[key]")
    # A discriminated union puts its tag into the place; it is no key of the file.
    kind = place[2] if len(place) > 2 and place[0] == "sources" and place[2] in SOURCE_KINDS else ""
    if kind:
        place = (*place[:2], *place[3:])
    auth = place[3] if len(place) > 3 and place[2] == "auth" and place[3] in AUTH_KINDS else ""
    if auth:
        place = (*place[:3], *place[4:])
    # So does a union of a number and a day, of which the first is told.
    either = ""
    if len(place) > 3 and place[2] == "partitions" and place[-1] in ("int", "date"):
        place, either = place[:-1], "it is a whole number, or a day as yyyy-mm-dd"
    key = ".".join(place) or "settings"
    if place and place[0] in from_environment:
        key, where = place[0].upper(), "environment"
    else:
        where = _where(place, file, lines)
    value = first.get("input")
    if first["type"] == "extra_forbidden":
        allowed = _allowed_keys(place, kind, auth)
        near = difflib.get_close_matches(place[-1], allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        if len(place) > 1 and place[-1] in Settings.model_fields:
            hint = f"{place[-1]} stands at the top of {CONFIG_FILE}, not here; "
        return ConfigError(f"unknown key {key}", where=where, fix=f"{hint}allowed are {', '.join(sorted(allowed))}")
    if first["type"] == "missing":
        return ConfigError(f"{key} is missing", where=where, fix="add it; penstock.schema.json tells what it takes")
    if first["type"].startswith("union_tag"):
        kinds = AUTH_KINDS if place[-1] == "auth" else SOURCE_KINDS
        return ConfigError(f"{key}.type is not known", where=where, fix=f"it is one of {', '.join(kinds)}")
    if first["type"] == "string_pattern_mismatch":  # of no key that may hold a secret
        return ConfigError(f"{key} is {value!r}", where=where, fix=_PATTERNS[first["ctx"]["pattern"]])
    shown = "" if isinstance(value, dict | list) or _may_be_secret(place) else f" is {_spelt(value)}"
    return ConfigError(
        f"{key}{shown or ' is wrong'}",
        where=where,
        fix=either or _wanted(first["type"], first["msg"], first.get("ctx", {})),
    )


def _may_be_secret(place: tuple[str, ...]) -> bool:
    if place[:1] == ("sources",):
        return any(part in ("url", "params", "headers", "auth") for part in place[2:])
    return place[:1] in [("database_url",), ("warehouse_url",), ("api_base_url",), ("api_key",)]


def _spelt(value: Any) -> str:
    """A value as a reader of YAML knows it."""
    if value is None:
        return "empty"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _wanted(kind: str, message: str, limits: Mapping[str, Any]) -> str:
    """What a value must be, by pydantic's type of error; in its own words where nothing better is known."""
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "it holds `key: value` pairs"
    if kind == "literal_error":
        return f"it is one of {limits['expected'].replace(' or ', ', ')}"
    for start, wanted in _WANTED.items():
        if kind.startswith(start):
            return wanted.format(**limits)
    return message.removeprefix("Value error, ")


def _where(place: tuple[str, ...], file: Path, lines: Mapping[tuple[str, ...], int]) -> str:
    """The line of a key, or of what should hold it."""
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    return f"{file}, line {line}" if line else str(file)


# By how the type of an error begins, the longer beginnings first.
_WANTED = {
    "list_type": "it is a list, as in [a, b]",
    "string_type": "it is text; a number or a word such as yes or null stands in quotes",
    "string_too_short": "its length is at least {min_length}",
    "string_too_long": "its length is at most {max_length}",
    "too_short": "it lists at least {min_length}",
    "too_long": "it lists at most {max_length}",
    "int_": "it is a whole number",
    "float_": "it is a number",
    "bool_": "it is true or false",
    "date_": "it is a day as yyyy-mm-dd",
    "invalid_key": "a key is text",
    "path_type": "it is the path of a file or folder",
    "greater_than_equal": "it is at least {ge:g}",
    "greater_than": "it is more than {gt:g}",
    "less_than_equal": "it is at most {le:,.12g}",
    "less_than": "it is less than {lt:,.12g}",
}
_PATTERNS = {
    SOURCE_NAME: "a source is named <system>__<things>, in snake_case, as in hr__employees",
    CHARACTER: "it is one ASCII character",
    IDENTIFIER: "a name is in snake_case: small letters, digits and _",
}


def _allowed_keys(place: tuple[str, ...], kind: str, auth: str) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        **SOURCE_SECTIONS,
        "auth": AUTH_KINDS.get(auth, Section),
        "export": Export,
        "switches": Switches,
        "sources": SOURCE_KINDS.get(kind, AnySource),
        "outputs": Output,
    }
    for part in reversed(place[:-1]):
        if part in sections:
            return sorted(sections[part].model_fields)
    return list(Settings.model_fields)
