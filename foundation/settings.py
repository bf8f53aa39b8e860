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
from foundation.sources import (
    AUTH_KINDS,
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


class Export(Section):
    """Files written beside the published table."""

    formats: list[Literal["csv", "json", "parquet"]] = Field(min_length=1)
    columns: dict[str, str] = Field(
        default_factory=dict, description="Column: heading, in this order, for CSV; empty: every column under its name."
    )


class Output(Section):
    """A mart that readers get as a Postgres table."""

    key: list[Identifier] = Field(min_length=1, description="Columns of the primary key.")
    unique: list[Identifier] = Field(default_factory=list)
    indexes: list[Identifier] = Field(default_factory=list)
    json_columns: list[Identifier] = Field(
        default_factory=list, description="Text columns that hold JSON and become jsonb."
    )
    export: Export | None = None


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
    api_base_url: str | None = Field(None, description="Unset: the bundled sample API is started while ingesting.")
    api_key: SecretStr | None = None
    batch_size: int = Field(
        1000, ge=1, le=1_000_000, description="Records asked for in one API page where pagination names no size."
    )
    max_retries: int = Field(3, ge=1, le=20, description="Tries of one request in all.")
    concurrency: int = Field(4, ge=1, le=64)
    progress_update_ms: int = Field(2000, ge=50, le=600_000)
    failure_threshold_percent: float = Field(10, ge=0, le=100)
    allowed_roots: list[str] | None = Field(
        None,
        description="Folders or addresses that files may lie in, links followed; unset: the project and the folder "
        "that a source's own path names.",
    )
    work_dir: Path = Field(Path(".penstock"), description="Warehouse, logs, state and the embedded Postgres.")
    temp_dir: Path | None = Field(None, description="Large temporary files; default: tmp in work_dir.")
    output_dir: Path = Field(Path("exports"), description="Exported files.")
    site_dir: Path = Path("site")
    lock_timeout_seconds: Seconds = Field(
        10.0, description="How long publishing waits for a table that a reader holds."
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "critical", description="Of the structured log on stderr; the files in work_dir/logs hold it from info on."
    )
    switches: Switches = Switches()
    sources: dict[Annotated[str, Field(pattern=SOURCE_NAME, max_length=60)], Source] = Field(default_factory=dict)
    outputs: dict[Annotated[str, Field(pattern=IDENTIFIER, max_length=60)], Output] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _temp_dir_default(self) -> "Settings":
        if self.temp_dir is None:
            object.__setattr__(self, "temp_dir", self.work_dir / "tmp")
        return self

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        return self.work_dir / "warehouse.duckdb"

    @property
    def temporary(self) -> Path:
        """`temp_dir`, which the default has filled."""
        assert self.temp_dir is not None
        return self.temp_dir

    def secrets(self) -> list[str]:
        """Every secret value in use, for the places that must leave them out."""
        held = [self.database_url, self.api_key]
        for source in self.sources.values():
            if isinstance(source, ApiSource):
                held += source.secrets()
        return [value.get_secret_value() for value in held if value is not None and value.get_secret_value()]


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
    for found in misfits(settings.sources):
        raise ConfigError(
            f"{'.'.join(found.place)} {found.what}", where=_where(found.place, file, lines), fix=found.fix
        )
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

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, text)


def _is_section(annotation: Any) -> bool:
    return annotation is Switches or any(kind in str(annotation) for kind in ("dict", "list"))


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
    key = ".".join(place) or "settings"
    if place and place[0] in from_environment:
        key, where = place[0].upper(), "environment"
    else:
        where = _where(place, file, lines)
    value = first.get("input")
    if any(word in key.lower() for word in ("url", "key", "header", "secret", "password", "token")):
        value = "(not shown)"
    if first["type"] == "extra_forbidden":
        allowed = _allowed_keys(place, kind, auth)
        near = difflib.get_close_matches(place[-1], allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return ConfigError(f"unknown key {key}", where=where, fix=f"{hint}allowed are {', '.join(sorted(allowed))}")
    if first["type"] == "missing":
        return ConfigError(f"{key} is missing", where=where, fix="add it; penstock.schema.json tells what it takes")
    if first["type"].startswith("union_tag"):
        kinds = AUTH_KINDS if place[-1] == "auth" else SOURCE_KINDS
        return ConfigError(f"{key}.type is not known", where=where, fix=f"it is one of {', '.join(kinds)}")
    if first["type"] == "string_pattern_mismatch":
        return ConfigError(f"{key} is {value!r}", where=where, fix=_PATTERNS[first["ctx"]["pattern"]])
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(value, dict | list) else f" is {value!r}"
    return ConfigError(f"{key}{shown}", where=where, fix=message)


def _where(place: tuple[str, ...], file: Path, lines: Mapping[tuple[str, ...], int]) -> str:
    """The line of a key, or of what should hold it."""
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    return f"{file}, line {line}" if line else str(file)


_PATTERNS = {
    SOURCE_NAME: "a source is named <system>__<things>, in snake_case, as in hr__employees",
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
