"""`penstock new source`: looks at a source and writes all that it needs to be ingested, built, judged and published."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from foundation.errors import ConfigError, PenstockError, SourceError
from foundation.settings import CONFIG_FILE, Settings, load_settings
from foundation.sources import ApiSource
from operations.build import require_models
from operations.scaffold import edits, models, suites
from operations.scaffold.api import Asked, look_at_api
from operations.scaffold.design import Design
from operations.scaffold.fields import KINDS, Field, Profile, counted, guess_key, profile
from operations.scaffold.looking import Looked, is_api, look_at_files
from operations.scaffold.macros import Macros
from operations.scaffold.names import Names, check_name, choose
from operations.scaffold.writing import write_all
from operations.variables import source_variables

_MOST_TOLD = 12
_MODELS = "dbt_project/models"
_SUITES = "expectations/suites"


@dataclass(frozen=True)
class Wish:
    """What the command line asks for; what is None is found out."""

    name: str
    address: str
    domain: str | None = None
    kind: str | None = None
    key: Sequence[str] = ()
    records_path: str | None = None
    auth: str | None = None
    pagination: str | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be written, and what is to be told of it. `edited` has the bytes before and after."""

    names: Names
    new: dict[str, str]
    edited: dict[str, tuple[bytes, bytes]]
    guesses: list[str]
    is_new_domain: bool


Say = Callable[[str], None]


def new_source(root: Path, wish: Wish, say: Say, *, dry_run: bool) -> None:
    """Write all files of a new source or none, and tell what was guessed. Raises PenstockError."""
    check_name(wish.name, wish.domain)
    settings = _settings(root)
    require_models(root)
    names, is_new_domain = _names(root, settings, wish)
    looked = _look(root, settings, wish)
    found = profile(looked.records, Macros(root), is_json=looked.is_json)
    key, told = _key(found, wish, names.things)
    plan = _plan(root, names, looked, found, key, is_new_domain=is_new_domain)
    plan.guesses.extend([told, *_told_of_fields(found, looked, key)])
    if dry_run:
        for path, text in plan.new.items():
            say(f"--- {path}\n{text}")
        for path, (before, after) in plan.edited.items():
            say(f"--- {path}, added\n{_added(before.decode(), after.decode())}")
    else:
        write_all(root, plan.new, plan.edited)
    _tell(plan, say, dry_run=dry_run)


def _settings(root: Path) -> Settings:
    """The settings, also where there is no source and no output yet, which no other command takes."""
    file = root / CONFIG_FILE
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return load_settings(root)  # which tells what is wrong
    empty = [name for name in ("sources", "outputs") if isinstance(document, dict) and document.get(name, {}) is None]
    if not empty:
        return load_settings(root)
    filled = {name: value for name, value in document.items() if name not in empty}
    return _checked(yaml.safe_dump(filled).encode())


def _names(root: Path, settings: Settings, wish: Wish) -> tuple[Names, bool]:
    """The names of what is written, once none of it is there. Raises ConfigError that names everything that is."""
    folder = root / _MODELS
    there = {path.stem for path in folder.rglob("*.sql")} | {path.stem for path in (root / _SUITES).glob("*.py")}
    taken = there | set(settings.outputs)
    names = choose(wish.name, wish.domain, taken)
    is_new_domain = not any((folder / layer / names.domain).exists() for layer in ("staging", "intermediate", "marts"))
    found = [f"sources.{wish.name} in {CONFIG_FILE}"] if wish.name in settings.sources else []
    found += [f"outputs.{names.mart} in {CONFIG_FILE}"] if names.mart in settings.outputs else []
    for file in sorted(folder.rglob("*.yml")):
        found += [f"the table in {file.relative_to(root)}" for name in _tables(file) if name == wish.name]
    found += [f"the model {name}" for name in names.models if name in there]
    if (root / _SUITES / f"{wish.name}.py").exists():
        found.append(f"{_SUITES}/{wish.name}.py")
    if found:
        raise ConfigError(
            f"{wish.name} is there already: {', '.join(dict.fromkeys(found))}",
            fix="nothing was written; choose another name, or remove these first",
        )
    return names, is_new_domain


def _tables(file: Path) -> Iterator[str]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        for source in found.get("sources") or ():
            yield from (str(table.get("name")) for table in source.get("tables") or ())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise ConfigError(f"it cannot be read: {error}", where=str(file), fix="mend it first") from None


def _look(root: Path, settings: Settings, wish: Wish) -> Looked:
    of_api = {"--records-path": wish.records_path, "--auth": wish.auth, "--pagination": wish.pagination}
    if not is_api(wish.address, wish.kind):
        if given := [option for option, value in of_api.items() if value is not None]:
            raise ConfigError(f"{given[0]} is for APIs, and {wish.address[:80]!r} names files", fix="leave it out")
        return look_at_files(root, settings, wish.name, wish.address, wish.kind)
    asked = Asked(wish.address, wish.records_path, wish.auth, wish.pagination)
    # The bundled API is started where the address asks for it.
    source = ApiSource(type="api", url=wish.address)
    with source_variables(root, settings.model_copy(update={"sources": {wish.name: source}})) as variables:
        return look_at_api(settings, wish.name, asked, variables)


def _key(found: Profile, wish: Wish, things: str) -> tuple[tuple[Field, ...], str]:
    """The fields that name a record, and how that was found."""
    if not wish.key:
        guessed, why = guess_key(found, things)
        if guessed is not None:
            return (guessed,), f"key {guessed.name}: {why}"
        return (), "key: none was found, so a file counts in its newest version; say --key where there is one"
    fields = []
    for name in wish.key:
        field = found.field(name)
        if field is None:
            known = ", ".join(each.name for each in found.fields[:_MOST_TOLD])
            raise ConfigError(f"there is no field {name[:80]!r}", where="--key", fix=f"there are {known}")
        fields.append(field)
    for field in fields:
        if field.filled < found.count:
            empty = counted(found.count - field.filled, "record")
            return tuple(fields), f"key {_joined(fields)}: as asked; {empty} without {field.name} would be rejected"
    return tuple(fields), f"key {_joined(fields)}: as asked"


def _plan(
    root: Path, names: Names, looked: Looked, found: Profile, key: tuple[Field, ...], *, is_new_domain: bool
) -> Plan:
    design = Design(names, looked.kind, found.fields, key)
    new = {f"{_MODELS}/{path}": text for path, text in models.files(design).items()}
    edited: dict[str, tuple[bytes, bytes]] = {}
    tables = f"{_MODELS}/staging/{names.domain}/_{names.domain}__sources.yml"
    lines = models.table(design, [field.raw for field in found.fields])
    if (root / tables).exists():
        edited[tables] = _edited(root / tables, lambda text: edits.add_table(text, lines, tables))
    else:
        new = {tables: models.sources_file(lines), **new}
    output: dict[str, Any] = {"key": design.mart_key}
    if documents := [field.name for field in found.fields if field.kind == "document" and field not in key]:
        output["json_columns"] = documents

    def with_entries(text: str) -> str:
        text = edits.add_entry(text, "sources", names.source, looked.entry, CONFIG_FILE)
        return edits.add_entry(text, "outputs", names.mart, output, CONFIG_FILE)

    edited[CONFIG_FILE] = _edited(root / CONFIG_FILE, with_entries)
    _require_settings(edited[CONFIG_FILE][1])
    new |= suites.files(design, found.count)
    return Plan(names, new, edited, list(looked.guesses), is_new_domain)


def _edited(file: Path, change: Callable[[str], str]) -> tuple[bytes, bytes]:
    """The bytes of a file before and after, its kind of line ends kept."""
    before = file.read_bytes()
    try:
        text = before.decode()
    except UnicodeDecodeError:
        raise ConfigError("it is no UTF-8 text", where=str(file), fix="save it as UTF-8") from None
    has_returns = "\r\n" in text
    after = change(text.replace("\r\n", "\n"))
    return before, (after.replace("\n", "\r\n") if has_returns else after).encode()


def _checked(text: bytes) -> Settings:
    """The settings of a file with that text. Raises PenstockError where they are not valid."""
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        Path(folder, CONFIG_FILE).write_bytes(text)
        return load_settings(Path(folder))


def _require_settings(text: bytes) -> None:
    try:
        _checked(text)
    except PenstockError as error:
        raise SourceError(f"the entry would not be valid: {error.what}", fix=error.fix) from None


# Telling


def _told_of_fields(found: Profile, looked: Looked, key: tuple[Field, ...]) -> Iterator[str]:
    share = "all" if looked.is_all else "the first"
    yield f"looked at {share} {counted(found.count, 'record')}, {counted(len(found.fields), 'field')}"
    if looked.broken:
        yield f"{counted(looked.broken, 'record')} cannot be read and would be dead letters"
    for kind, (_, _, words) in KINDS.items():
        of_kind = [field.name for field in found.fields if field.kind == kind]
        if of_kind:
            yield f"{words}: {_few(of_kind)}: every value read so; one that does not later is rejected with its reason"
    if documents := [field.name for field in found.fields if field.kind == "document"]:
        yield f"JSON documents, whole: {_few(documents)}"
    if renamed := [f"{field.raw} -> {field.name}" for field in found.fields if field.raw != field.name]:
        yield f"renamed: {_few(renamed)}"
    for name, why in list(found.left.items())[:_MOST_TOLD]:
        yield f"left in raw: {name}: {why}"
    yield "freshness and the bounds of the suites: guessed; set them once you know how the source behaves"
    if looked.kind == "api" and not key:
        yield "without a key, records that an API serves again on a changed page count again"


def _tell(plan: Plan, say: Say, *, dry_run: bool) -> None:
    names = plan.names
    say("would write:" if dry_run else "written:")
    for path in plan.new:
        say(f"  {path}")
    for path in plan.edited:
        say(f"  {path} (extended)")
    say("guessed:")
    for guess in plan.guesses:
        say(f"  {' '.join(guess.split())}")
    if not plan.is_new_domain:
        say(f"domain {names.domain} was there: {names.source} has outcomes and a mart of its own beside it.")
        say(f"  To unite it with the others instead: {names.staging} with the columns of its sisters, one line in the")
        say(f"  model that unites them, and without {names.judged}, {names.outcomes}, {names.rejected}, {names.mart}.")
    if dry_run:
        say("dry run: nothing was written")
        return
    say("next:")
    say("  penstock run --dry-run")
    say(f"  penstock run        # publishes {names.mart}")
    say(f"  dbt build --select +{names.mart}+    # with the unit tests on invented records")


def _added(before: str, after: str) -> str:
    import difflib

    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return "\n".join(line[2:] for line in lines if line.startswith("+ "))


def _joined(fields: Sequence[Field]) -> str:
    return ", ".join(field.name for field in fields)


def _few(names: Sequence[str]) -> str:
    rest = len(names) - _MOST_TOLD
    return ", ".join(names[:_MOST_TOLD]) + (f" and {rest} more" if rest > 0 else "")
