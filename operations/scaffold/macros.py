"""The project's own macros outside of dbt: a value counts as readable here exactly where the models will read it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2

from foundation.errors import ConfigError

FILES = ("patterns.sql", "texts.sql", "values.sql", "json.sql")


class Macros:
    """The macros of `dbt_project/macros`, rendered for DuckDB with every switch on. Raises ConfigError."""

    def __init__(self, root: Path) -> None:
        folder = root / "dbt_project" / "macros"
        try:
            text = "\n".join((folder / name).read_text(encoding="utf-8") for name in FILES)
            self._module = _environment(self._dispatched).from_string(text).module
        except (OSError, UnicodeDecodeError, jinja2.TemplateError) as error:
            raise ConfigError(f"the macros cannot be read: {error}", where=str(folder), fix="mend them") from None

    def __call__(self, name: str, *arguments: Any, **named: Any) -> str:
        """The SQL of one call."""
        try:
            return str(self._found(name)(*arguments, **named)).strip()
        except jinja2.TemplateError as error:
            raise ConfigError(f"the macro {name} cannot be used: {error}", where="dbt_project/macros") from None

    def _found(self, name: str) -> Callable[..., Any]:
        macro = getattr(self._module, name, None)
        if macro is None:
            raise ConfigError(f"there is no macro {name}", where="dbt_project/macros", fix="put it back")
        return macro  # type: ignore[no-any-return]

    def _dispatched(self, name: str, _package: str) -> Callable[..., Any]:
        is_there = hasattr(self._module, f"duckdb__{name}")
        return self._found(f"{'duckdb' if is_there else 'default'}__{name}")


def _environment(dispatch: Callable[[str, str], Callable[..., Any]]) -> jinja2.Environment:
    import json

    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    quoted: Callable[[str], str] = lambda text: text.replace("'", "''")  # noqa: E731 - as dbt names it
    environment.globals.update(
        adapter=SimpleNamespace(dispatch=dispatch),
        dbt=SimpleNamespace(
            string_literal=lambda text: f"'{text}'",
            escape_single_quotes=quoted,
            type_string=lambda: "varchar",
            length=lambda text: f"length({text})",
        ),
        tojson=json.dumps,
        var=lambda *_: True,
    )
    environment.globals["return"] = lambda value: value
    return environment
