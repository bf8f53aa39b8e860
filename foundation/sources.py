"""What `penstock.yml` may say of a source: where it is, how it is read, what happens when its shape changes."""

import codecs
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

IDENTIFIER = r"^[a-z_][a-z0-9_]*$"
SOURCE_NAME = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*__[a-z][a-z0-9]*(_[a-z0-9]+)*$"
CHARACTER = r"^[\x01-\x7f]$"

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Identifier = Annotated[str, Field(pattern=IDENTIFIER)]
Character = Annotated[str, Field(pattern=CHARACTER)]


class Section(BaseModel):
    """A part of the settings: a key that is not listed is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Partitions(Section):
    """Parts of a source that are read side by side, fail alone and are listed on their own.

    What a part differs in stands as {placeholders} in path, url or params: {value}; {start} and {stop} of a range (stop
    is left out of it) or of days; {bucket} and {buckets} of a hash. With `files` each file is a part.
    """

    by: Literal["values", "range", "dates", "hash", "files"]
    values: list[str] = Field(default_factory=list, description="For values: one part each.")
    start: int | date | None = Field(None, description="First number (range) or day (dates).")
    stop: int | date | None = Field(None, description="Number or day after the last; unset for dates: tomorrow.")
    step: Annotated[int, Field(ge=1)] | None = Field(None, description="Numbers or days in one part.")
    buckets: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="For hash: how many parts.")
    priority: dict[str, int] = Field(
        default_factory=dict, description="Part: number; the higher is read first, 0 where none is given."
    )

    @model_validator(mode="after")
    def _needs(self) -> "Partitions":
        wanted = {"values": ("values",), "range": ("start", "stop", "step"), "dates": ("start", "step")}
        wanted["hash"] = ("buckets",)
        for field in wanted.get(self.by, ()):
            if getattr(self, field) in (None, []):
                raise ValueError(f"by: {self.by} needs {', '.join(wanted[self.by])}")
        kind = {"range": int, "dates": date}.get(self.by)
        if kind is not None and not all(isinstance(end, kind) for end in (self.start, self.stop) if end is not None):
            raise ValueError(f"by: {self.by} takes {'whole numbers' if kind is int else 'days as yyyy-mm-dd'}")
        return self

    @property
    def marks(self) -> list[str]:
        """The placeholders that differ from part to part."""
        return {"values": ["value"], "hash": ["bucket"], "files": []}.get(self.by, ["start", "stop"])

    def parts(self, today: date) -> Iterator[tuple[str, dict[str, str]]]:
        """Name and placeholder values of every part; none where each file is one."""
        if self.by == "values":
            for value in dict.fromkeys(self.values):
                yield value, {"value": value}
        elif self.by == "hash":
            for bucket in range(self.buckets or 0):
                yield f"{bucket} of {self.buckets}", {"bucket": str(bucket), "buckets": str(self.buckets)}
        elif self.by == "range":
            first, stop, step = int(self.start or 0), int(self.stop or 0), self.step or 1  # type: ignore[arg-type]
            for start in range(first, stop, step):
                end = min(start + step, stop)
                yield f"{start} to {end - 1}", {"start": str(start), "stop": str(end)}
        elif self.by == "dates":
            day, step = self.start, self.step or 1
            stop_day = self.stop or today + timedelta(days=1)
            assert isinstance(day, date)
            assert isinstance(stop_day, date)
            while day < stop_day:
                following = min(day + timedelta(days=step), stop_day)
                last = following - timedelta(days=1)
                yield (f"{day}" if last == day else f"{day} to {last}"), {"start": f"{day}", "stop": f"{following}"}
                day = following


class AnySource(Section):
    """What every source has."""

    priority: int = Field(0, description="Sources with a higher number are read first.")
    fail_fast: bool = Field(False, description="When this source fails, the run stops reading the others.")
    failure_threshold_percent: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None,
        description="More failed records of this source than this since the last release: nothing is published; unset: "
        "it counts together with the others.",
    )
    failure_warning_percent: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="More than this: a warning; unset: half of failure_threshold_percent."
    )
    partitions: Partitions | None = None
    schema_drift: Literal["evolve", "freeze", "dead_letter"] = Field(
        "evolve",
        description="A column that is gone or a type that changed: evolve loads and reports, freeze stops the source, "
        "dead_letter sets the records aside. New columns always arrive and are reported.",
    )


class FileSource(AnySource):
    """What every source of files has."""

    type: str
    path: str = Field(description="A file or a glob, relative to penstock.yml, or s3://bucket/... and the like.")


class CsvSource(FileSource):
    """Files of delimited text. What is not set here is found out from the head of each file."""

    type: Literal["csv"]
    columns: list[Identifier] = Field(
        default_factory=list,
        description="Columns that raw always has, in snake_case; one that a file lacks is empty and reported. The "
        "columns in their order where a file has no header.",
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=4)] | None = None
    quote: Annotated[str, Field(max_length=1)] | None = Field(None, description="Empty: no field is quoted.")
    escape: Character | None = Field(None, description="What makes a quote inside a quoted field; default: a quote.")
    encoding: str | None = Field(None, description="As Python names it; unset: UTF-8, or what a byte order mark says.")
    header: bool | None = None

    @field_validator("delimiter", "quote", "escape")
    @classmethod
    def _is_on_one_line(cls, value: str | None, field: ValidationInfo) -> str | None:
        text = value or ""
        if {"\n", "\r", "\0"} & set(text):
            raise ValueError("a line end or a NUL cannot be one")
        if field.field_name == "delimiter" and len(text.encode()) > 4:
            raise ValueError("a delimiter takes four bytes at most")
        if field.field_name != "delimiter" and not text.isascii():
            raise ValueError("it is one ASCII character")
        return value

    @field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                b"a".decode(value, "ignore")  # codecs of bytes, such as hex, refuse that
                codecs.getincrementaldecoder(value)
        except (LookupError, ValueError):
            raise ValueError(
                "Python knows no text encoding of that name; utf-8, cp1252 or utf-16 are some that it knows"
            ) from None
        return value

    @model_validator(mode="after")
    def _differ(self) -> "CsvSource":
        if any(part and part in (self.delimiter or "") for part in (self.quote, self.escape)):
            raise ValueError("delimiter, quote and escape must differ")
        return self


class JsonSource(FileSource):
    """Files that hold a JSON array of records, or one record a line (NDJSON)."""

    type: Literal["json"]
    format: Literal["auto", "array", "lines"] = "auto"


class ParquetSource(FileSource):
    """Parquet files. Raw holds every value as text, nested ones as JSON."""

    type: Literal["parquet"]


class Retry(Section):
    """When a request that failed is sent again: exponential backoff by 2, with jitter."""

    attempts: Annotated[int, Field(ge=1, le=20)] | None = Field(None, description="Tries in all; default MAX_RETRIES.")
    first_wait_seconds: Seconds = 1.0
    longest_wait_seconds: Seconds = 60.0
    timeout_seconds: Seconds = Field(30.0, description="The longest that one response may take, body included.")


class Pagination(Section):
    """How the next page of an API is found."""

    type: Literal["page", "offset", "cursor", "next_url", "link_header", "none"] = "none"
    size: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="Records asked for in one page; default BATCH_SIZE."
    )
    size_param: str | None = Field(None, description="Query parameter that carries `size`.")
    page_param: str = Field("page", description="Query parameter of the page number, offset or cursor.")
    first_page: int = Field(1, description="Number of the first page (page) or first offset (offset).")
    next_path: str | None = Field(None, description="Dotted path in the body to the next cursor or next URL.")
    total_path: str | None = Field(None, description="Dotted path in the body to the number of records in all.")


class BearerAuth(Section):
    """`Authorization: Bearer <token>`."""

    type: Literal["bearer"]
    token: SecretStr = Field(description="May hold ${NAME}, such as ${API_KEY}.")


class KeyAuth(Section):
    """An API key in a header or a query parameter."""

    type: Literal["api_key"]
    key: SecretStr = Field(description="May hold ${NAME}, such as ${API_KEY}.")
    header: str | None = Field(None, description="Default X-API-Key, where no param is named.")
    param: str | None = None


class BasicAuth(Section):
    """User and password, as RFC 7617 has it."""

    type: Literal["basic"]
    user: str = Field(description="May hold ${NAME}.")
    password: SecretStr = Field(description="May hold ${NAME}.")


class OAuth2Auth(Section):
    """OAuth 2.0 client credentials, RFC 6749 section 4.4."""

    type: Literal["oauth2"]
    token_url: str
    client_id: str = Field(description="May hold ${NAME}.")
    client_secret: SecretStr = Field(description="May hold ${NAME}.")
    scope: str | None = None


Auth = Annotated[BearerAuth | KeyAuth | BasicAuth | OAuth2Auth, Field(discriminator="type")]


class RateLimit(Section):
    """The most requests that one host gets; of several sources on one host the strictest counts."""

    requests: Annotated[int, Field(ge=1)]
    per_seconds: Seconds = 1.0


class ForEach(Section):
    """One request for each record of another API source: {id} in the url is the value of `field` in it."""

    source: str
    field: str = Field(description="Dotted path in the record of the other source.")
    refresh_hours: Annotated[float, Field(ge=0)] = Field(
        0,
        description="An id whose answer is not that old is not asked for again, one without an answer always is. 0: "
        "every run asks for all of them.",
    )


class ApiSource(AnySource):
    """Records that an HTTP API serves as JSON."""

    type: Literal["api"]
    url: str = Field(description="May hold ${NAME} of an environment variable or setting, such as ${API_BASE_URL}.")
    params: dict[str, str] = Field(default_factory=dict)
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Values may hold ${NAME}, such as ${API_KEY}."
    )
    auth: Auth | None = None
    rate_limit: RateLimit | None = None
    http2: bool = Field(True, description="Use HTTP/2 where the server offers it.")
    for_each: ForEach | None = None
    records_path: str = Field("", description="Dotted path in the body to the list of records; empty: the body is it.")
    pagination: Pagination = Pagination()
    cursor_path: str | None = Field(None, description="Field of a record that grows; only newer ones are asked for.")
    cursor_param: str | None = Field(None, description="Query parameter that carries the newest cursor seen.")
    cursor_lag: Annotated[float, Field(ge=0)] = Field(
        0,
        description="Ask again for what is this much older than the newest cursor, in its own unit, or in seconds "
        "where it is a time: for records that arrive late. What was loaded before is skipped.",
    )
    largest_response_mb: Annotated[int, Field(ge=1, le=4096)] = 256
    retry: Retry = Retry()

    def secrets(self) -> list[SecretStr]:
        """Every value that nobody may see."""
        held = list(self.headers.values())
        for name in ("token", "key", "password", "client_secret"):
            if isinstance(value := getattr(self.auth, name, None), SecretStr):
                held.append(value)
        return held


Source = Annotated[CsvSource | JsonSource | ParquetSource | ApiSource, Field(discriminator="type")]
SOURCE_KINDS: dict[str, type[AnySource]] = {
    "csv": CsvSource,
    "json": JsonSource,
    "parquet": ParquetSource,
    "api": ApiSource,
}
AUTH_KINDS: dict[str, type[Section]] = {
    "bearer": BearerAuth,
    "api_key": KeyAuth,
    "basic": BasicAuth,
    "oauth2": OAuth2Auth,
}
# Sections inside a source, by the key that holds them, for the error that lists what is allowed there.
SOURCE_SECTIONS: dict[str, type[Section]] = {
    "pagination": Pagination,
    "retry": Retry,
    "partitions": Partitions,
    "rate_limit": RateLimit,
    "for_each": ForEach,
}
