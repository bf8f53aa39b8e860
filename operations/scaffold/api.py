"""A look at an API: where its records stand in an answer, and how the next page is found, proven by asking for it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import ValidationError

from foundation.errors import ConfigError, PenstockError, SourceError
from foundation.settings import Settings
from foundation.sources import ApiSource
from ingestion.readers.apis.answer import value_at
from ingestion.readers.apis.client import Answer, AnswerError, ApiClients
from ingestion.readers.apis.walk import Walk
from operations.scaffold.looking import MOST_BYTES, MOST_RECORDS, Looked, lists_in

MOST_PAGES = 3
_USUAL_LISTS = ("data", "items", "results", "records", "rows", "value", "content", "entries", "hits")
_SECRET_PARAM = re.compile(
    r"(^|[_-])(api_?key|key|token|secret|password|passwd|sig|signature|auth|access_token)$", re.IGNORECASE
)
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_TOTALS = ("total", "total_count", "totalCount", "total_records", "totalRecords", "total_results", "totalResults")
_ABOUT = ("", "meta.", "paging.", "pagination.", "page.", "links.", "_links.", "response_metadata.")
_NEXT_URLS = ("next", "next_url", "nextUrl", "next_page_url", "nextPageUrl", "next_link", "nextLink", "next.href")
# Where a cursor stands, and the parameters that may carry it.
_CURSORS = {
    "next_cursor": ("cursor", "next_cursor"), "nextCursor": ("cursor", "nextCursor"),
    "next_page_token": ("page_token", "next_page_token"), "nextPageToken": ("pageToken", "nextPageToken"),
    "next_token": ("next_token", "token"), "nextToken": ("nextToken", "token"), "cursor": ("cursor",),
    "continuation_token": ("continuation_token",), "next": ("next", "_next", "cursor", "after"), "after": ("after",),
}  # fmt: skip
_PAGE_WORD = re.compile(r"page|pages|per_?page|total_?pages|page_?count", re.IGNORECASE)
_PAGE_PARAMS = ("page", "_page", "pageNumber", "page_number", "p")
_OFFSET_PARAMS = ("offset", "skip", "start", "_start")


@dataclass(frozen=True)
class Asked:
    """What the command line says of an API; what it leaves open is found out."""

    url: str
    records_path: str | None = None
    auth: str | None = None
    pagination: str | None = None


def look_at_api(settings: Settings, name: str, asked: Asked, variables: Mapping[str, str]) -> Looked:
    """Some records of the first pages of an API. Raises SourceError or ConfigError where there are none to load."""
    _refuse_secrets(asked.url)
    entry: dict[str, Any] = {"type": "api", "url": asked.url}
    if asked.auth:
        entry["auth"] = auth_entry(asked.auth)
    with ApiClients(variables, concurrency=1, max_retries=1, batch_size=settings.batch_size) as clients:
        prober = _Prober(clients, name)
        try:
            first = prober.ask(entry)
            path, why = _records_path(first, asked.records_path, name)
            if path:
                entry["records_path"] = path
            guesses = [f"records_path {path or 'empty'}: {why}"]
            if path:
                first = prober.ask(entry)
            if not first.body.is_list or not first.body.count:
                where = f"at {path}" if path else "in it"
                raise SourceError(
                    f"the answer holds no list of records {where}", where=asked.url, fix="say where with --records-path"
                )
            paging, told = _pagination(prober, entry, first, asked)
            if paging:
                entry["pagination"] = paging
            guesses.append(told)
            items, is_all = prober.records(entry)
        except AnswerError as error:
            raise _explained(error, asked) from None
    # An item that is no object becomes a dead letter.
    records = items.filter(pc.starts_with(items["record"], "{"))
    if not records.num_rows:
        raise SourceError("no item of the list is an object", where=asked.url, fix="say where with --records-path")
    return Looked(entry, records, guesses, is_all, items.num_rows - records.num_rows)


def auth_entry(text: str) -> dict[str, str]:
    """The section `auth` for what --auth says; values come from the environment. Raises ConfigError."""
    kind, *rest = text.split(":")
    fits = [re.fullmatch(_VARIABLE, part) is not None for part in rest]
    if kind == "bearer" and fits == [True]:
        return {"type": "bearer", "token": f"${{{rest[0]}}}"}
    if kind == "basic" and fits == [True, True]:
        return {"type": "basic", "user": f"${{{rest[0]}}}", "password": f"${{{rest[1]}}}"}
    if kind == "api_key" and len(rest) in (1, 2) and fits[0] and re.fullmatch(r"[A-Za-z0-9_-]+", rest[-1]):
        return {"type": "api_key", "key": f"${{{rest[0]}}}"} | ({"header": rest[1]} if rest[1:] else {})
    raise ConfigError(
        "--auth takes names of environment variables, and no secret itself",
        fix="write bearer:NAME, api_key:NAME, api_key:NAME:Header-Name or basic:USER_NAME:PASSWORD_NAME",
    )


@dataclass(frozen=True)
class _Prober:
    """Asks an API, each time as one entry of penstock.yml says."""

    clients: ApiClients
    name: str

    def ask(self, entry: Mapping[str, Any], **params: str) -> Answer:
        """The answer to the first request that the entry makes, with these parameters too."""
        source = ApiSource.model_validate(entry)
        client = self.clients.client(self.name, source)
        try:
            return client.get(client.address(client.url, {**source.params, **params}))
        finally:
            client.stop()

    def pages(self, entry: Mapping[str, Any]) -> Iterator[pa.Array]:
        """The records of the pages, one after the other."""
        client = self.clients.client(self.name, ApiSource.model_validate(entry))
        size = client.source.pagination.size or self.clients.batch_size
        try:
            walk = Walk(client, size, 1, lambda _: None)
            for page in walk.pages(walk.first()):
                yield page.records
        finally:
            client.stop()

    def records(self, entry: Mapping[str, Any]) -> tuple[pa.Table, bool]:
        """The records of the first pages, and whether these are all."""
        arrays, is_all = [], True
        for number, array in enumerate(self.pages(entry), start=1):
            arrays.append(array)
            if (
                number >= MOST_PAGES
                or sum(map(len, arrays)) >= MOST_RECORDS
                or sum(a.nbytes for a in arrays) > MOST_BYTES
            ):
                is_all = False
                break
        return pa.table({"record": pa.chunked_array(arrays, pa.string())}), is_all

    def leads_on(self, entry: Mapping[str, Any]) -> bool:
        """Whether the second page is there, and is not the first one again."""
        try:
            return len([page for page in islice(self.pages(entry), 2) if len(page)]) == 2
        except PenstockError:
            return False


def _records_path(first: Answer, asked: str | None, name: str) -> tuple[str, str]:
    if asked is not None:
        return asked, "as asked"
    if first.body.is_list:
        return "", "the answer is the list, sure"
    found = dict(lists_in(first.body.rest))
    names = [path for path in found if path.rpartition(".")[2] in (name.partition("__")[2], *_USUAL_LISTS)]
    if len(found) == 1:
        return next(iter(found)), "the only list of objects in the answer, sure"
    if len(names) == 1:
        return names[0], f"of {len(found)} lists of objects the one that is named so: likely"
    if not found:
        raise SourceError(
            "the answer holds no list of records",
            where=first.url,
            fix="check the url, or say with --records-path where the list stands when it is empty now",
        )
    told = ", ".join(f"{path} ({len(items):,})" for path, items in list(found.items())[:10])
    raise SourceError(
        f"the answer holds more than one list of objects: {told}", where=first.url, fix="say which with --records-path"
    )


def _pagination(
    prober: _Prober, entry: Mapping[str, Any], first: Answer, asked: Asked
) -> tuple[dict[str, Any] | None, str]:
    if asked.pagination is not None:
        return _asked_pagination(asked.pagination), "pagination: as asked"
    total_path, total = _total(first)
    for paging, told in _candidates(first, total_path, total):
        if prober.leads_on({**entry, "pagination": paging}):
            return paging, f"pagination {paging['type']}: {told}, and the second page was there"
    if total is not None and total > first.body.count:
        raise SourceError(
            f"the API counts {total:,} records, its first answer holds {first.body.count:,}, and how to get the "
            "next page was not found out",
            where=first.url,
            fix="say it, for example --pagination '{type: page, page_param: page}' (README, How to add)",
        )
    if total is not None:
        return None, "pagination none: the first answer holds all that the API counts, sure"
    return None, "pagination none: the answer names no next page; look whether the API has more"


def _candidates(first: Answer, total_path: str | None, total: int | None) -> Iterator[tuple[dict[str, Any], str]]:
    rest = first.body.rest
    if first.next_link:
        yield {"type": "link_header"}, "the answer has a Link header"
    for path in (about + name for about in _ABOUT for name in _NEXT_URLS):
        value = value_at(rest, path)
        if isinstance(value, str) and re.match(r"https?://|/|\?", value):
            yield {"type": "next_url", "next_path": path}, f"the answer names its address at {path}"
    for about in _ABOUT:
        for name, params in _CURSORS.items():
            value = value_at(rest, about + name)
            if isinstance(value, str | int) and not isinstance(value, bool) and value and "/" not in str(value):
                for param in params:
                    paging = {"type": "cursor", "next_path": about + name, "page_param": param}
                    yield paging, f"the answer holds a cursor at {about}{name}"
    is_more = total is not None and total > first.body.count
    if not is_more and not (isinstance(rest, dict) and any(_PAGE_WORD.fullmatch(key) for key in rest)):
        return
    counts = {"total_path": total_path} if total_path else {}
    query = dict(parse_qsl(urlsplit(first.url).query))
    for param in sorted(_PAGE_PARAMS, key=lambda name: name not in query):
        yield {"type": "page", "page_param": param, **counts}, f"the parameter {param} leads on"
    for param in sorted(_OFFSET_PARAMS, key=lambda name: name not in query):
        numbers: dict[str, Any] = {"first_page": 0, "size": first.body.count, **counts}
        yield {"type": "offset", "page_param": param, **numbers}, f"the parameter {param} leads on"


def _total(first: Answer) -> tuple[str | None, int | None]:
    for path in (about + name for about in _ABOUT for name in _TOTALS):
        value = value_at(first.body.rest, path)
        if isinstance(value, int) and not isinstance(value, bool) and value >= first.body.count:
            return path, value
    header = first.total_header or ""
    return None, int(header) if re.fullmatch("[0-9]{1,15}", header) else None


def _asked_pagination(text: str) -> dict[str, Any]:
    try:
        given = yaml.safe_load(text)
        ApiSource.model_validate({"type": "api", "url": "http://x", "pagination": given})
    except (yaml.YAMLError, ValidationError):
        given = None
    if not isinstance(given, dict):
        raise ConfigError(
            "--pagination cannot be read", fix="write it as in penstock.yml: '{type: page, page_param: p}'"
        )
    return given


def _refuse_secrets(url: str) -> None:
    parts = urlsplit(re.sub(r"\$\{[^}]*\}", "x", url))
    if parts.username or parts.password or any(_SECRET_PARAM.search(key) for key, _ in parse_qsl(parts.query)):
        raise ConfigError(
            "the address holds what looks like a secret, which belongs to the environment",
            fix="leave it out and say --auth bearer:NAME, api_key:NAME or basic:USER_NAME:PASSWORD_NAME",
        )
    if re.search(r"[\s\x00-\x1f{}]", re.sub(r"\$\{" + _VARIABLE + r"\}", "", url)):
        raise ConfigError("the address holds blanks or braces", fix="write it as a browser shows it, %20 for a blank")


def _explained(error: AnswerError, asked: Asked) -> SourceError:
    fix = error.fix
    if error.reason in ("http_401", "http_403"):
        fix = "say who asks, with --auth bearer:NAME, api_key:NAME or basic:USER_NAME:PASSWORD_NAME"
        if asked.auth:
            fix = "check what the environment holds under the names in --auth"
    elif error.reason == "invalid_json":
        fix = "check the url; a file on the web wants --type csv, json or parquet"
    return SourceError(error.what, where=error.where, fix=fix)
