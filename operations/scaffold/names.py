"""Names that come from outside, as models may bear them: ASCII, no word of SQL, none that a model has for itself."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from foundation.errors import ConfigError
from foundation.sources import IDENTIFIER, SOURCE_NAME

LONGEST_NAME = 63  # bytes that Postgres keeps of a name
LONGEST_COLUMN = 50  # leaves room for what a model adds to it
# What models of any source have beside its fields, and what publishing adds to a mart.
OWN = {
    "load_id", "run_id", "source", "location", "content_hash", "line", "loaded_at", "is_current", "failed_rules",
    "outcome", "version_number", "repeat_number", "record_key", "record", "fields", "created_at", "updated_at",
}  # fmt: skip
CTES = {"loads", "typed", "judged", "ruled", "ranked", "final", "source", "renamed", "parsed"}
# Reserved in Postgres or by the linter, where DuckDB takes them.
_MORE_WORDS = {
    "authorization", "binary", "collation", "commutator", "concurrently", "connect", "cross", "current_catalog",
    "current_date", "current_role", "current_schema", "current_time", "current_timestamp", "current_user", "freeze",
    "full", "grant", "hashes", "ilike", "inner", "is", "isnull", "join", "left", "like", "localtime", "localtimestamp",
    "merges", "natural", "negator", "notnull", "outer", "overlaps", "right", "rightarg", "session_user", "similar",
    "tablesample", "user", "values", "verbose", "window", "rows", "array", "set", "timestamp", "interval", "date",
    "time",
}  # fmt: skip
# Of all these, those that the linter wants without quotes behind a dot, where engines take any word.
_NEED_NO_QUOTES = {
    "anti", "asof", "at", "by", "collation", "columns", "current_user", "date", "describe", "generated", "glob",
    "interval", "map", "positional", "qualify", "rows", "semi", "set", "show", "struct", "summarize", "table", "time",
    "timestamp", "try_cast", "unpack", "user", "values",
}  # fmt: skip


@dataclass(frozen=True)
class Names:
    """What the files and models of a new source are called."""

    source: str
    domain: str
    mart: str

    @property
    def system(self) -> str:
        """What stands before the two underscores."""
        return self.source.partition("__")[0]

    @property
    def things(self) -> str:
        """What stands after them."""
        return self.source.partition("__")[2]

    @property
    def cte(self) -> str:
        """How models call its records."""
        return "records" if self.mart in CTES or is_word(self.mart) else self.mart

    @property
    def staging(self) -> str:
        """The staging model."""
        return f"stg_{self.source}"

    @property
    def judged(self) -> str:
        """The intermediate model."""
        return f"int_{self.domain}__judged" if self.mart == self.domain else f"int_{self.domain}__{self.mart}_judged"

    @property
    def outcomes(self) -> str:
        """The model that the books are made from."""
        return f"outcomes_{self.mart}"

    @property
    def rejected(self) -> str:
        """The model of what broke a rule."""
        return f"rejected_{self.mart}"

    @property
    def models(self) -> tuple[str, ...]:
        """All of them."""
        return self.staging, self.judged, self.mart, self.outcomes, self.rejected


def check_name(name: str, domain: str | None) -> None:
    """Raises ConfigError where these cannot be the names of a source and a domain."""
    if not re.fullmatch(SOURCE_NAME, name):
        raise ConfigError(
            f"{_shown(name)} is no name of a source",
            fix="name it <system>__<things>, in lower case and with two underscores between, such as shop__orders",
        )
    if domain is not None and (not re.fullmatch(IDENTIFIER, domain) or "__" in domain or domain == "ingestion"):
        raise ConfigError(f"{_shown(domain)} is no name of a domain", fix="a plural in snake_case, such as orders")


def choose(name: str, domain: str | None, taken: Iterable[str]) -> Names:
    """The names of all that is written; a mart is named as the things are, unless something is named so already."""
    system, _, things = name.partition("__")
    known = set(taken)
    found = Names(name, domain or things, things)
    if is_word(things) or {found.mart, found.outcomes, found.rejected, found.judged} & known:
        found = Names(name, domain or things, f"{system}_{things}")
    longest = max(found.models, key=len)
    if len(longest) > LONGEST_NAME:
        raise ConfigError(
            f"{longest} would have {len(longest)} letters, and a name in a database has {LONGEST_NAME} at most",
            fix="choose a shorter name or domain",
        )
    return found


def column_names(headings: Sequence[str]) -> list[str]:
    """The name of each column in the models, from that of raw: each once, and free to stand in SQL without quotes."""
    names: list[str] = []
    for number, heading in enumerate(headings, start=1):
        base = ascii_name(heading) or f"column_{number}"
        if base in OWN or is_word(base):
            base = f"record_{base}"
        names.append(unused(base, names))
    return names


def ascii_name(text: str) -> str:
    """`text` in letters, digits and underscores; empty where none of it can be."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"__+", "_", re.sub(r"[^a-z0-9_]+", "_", plain)).strip("_")
    name = f"column_{name}" if name[:1].isdigit() else name
    if len(name) <= LONGEST_COLUMN:
        return name
    return f"{name[: LONGEST_COLUMN - 9]}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def unused(base: str, taken: Iterable[str]) -> str:
    """`base`, or with a number behind it where it is taken."""
    known, name, number = set(taken), base, 1
    while name in known:
        number += 1
        name = f"{base}_{number}"
    return name


def is_word(name: str) -> bool:
    """Whether SQL has a meaning of its own for it."""
    return name in _words()


def column_of(relation: str, name: str) -> str:
    """A column of raw in SQL, with quotes only where they are needed."""
    is_plain = re.fullmatch(r"[^\W\d]\w*", name) and (not is_word(name) or name in _NEED_NO_QUOTES)
    return f"{relation}.{name}" if is_plain else f"{relation}." + '"' + name.replace('"', '""') + '"'


@cache
def _words() -> frozenset[str]:
    import duckdb

    found = duckdb.execute(
        "select keyword_name from duckdb_keywords() where keyword_category in ('reserved', 'type_function')"
    ).fetchall()
    return frozenset({word for (word,) in found} | _MORE_WORDS)


def _shown(text: str) -> str:
    return repr(text[:80])
