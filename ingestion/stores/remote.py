"""Remote files, through fsspec: listed, streamed with a bounded read-ahead, and one version from start to end.

The package of a store is imported when a path names that store. Credentials and endpoints are its own matter: it finds
them in the environment.
"""

import email.utils
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from foundation.errors import ConfigError, SourceError
from ingestion.stores.patterns import fits, has_wildcard, matches, printable
from ingestion.stores.streams import RewindableStream

# One request fetches this much ahead: on a line with a delay of 50 ms most of the time is then spent on bytes.
READ_AHEAD_BYTES = 32 * 1024 * 1024
CONNECT_SECONDS, ANSWER_SECONDS = 10, 60
TRIES = 3
_HEAD_BYTES = 64 * 1024
_WEB = ("http", "https")
_S3 = ("s3", "s3a")
_GOOGLE = ("gs", "gcs")
_AZURE = ("az", "abfs", "abfss")
_PACKAGES = {
    **dict.fromkeys(_S3, "s3fs"),
    **dict.fromkeys(_GOOGLE, "gcsfs"),
    **dict.fromkeys(_AZURE, "adlfs"),
    **dict.fromkeys(_WEB, "aiohttp"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "smb": "smbprotocol",
    "webdav": "webdav4",
    "oss": "ossfs",
    "oci": "ocifs",
    "hf": "huggingface_hub",
}
# What a store tells of a version of a file that its content decides, or that no two versions share.
_MARKS = ("ETag", "etag", "generation", "md5Hash", "content_md5", "crc32c", "sha")
_CHANGES = (*_MARKS, "size", "LastModified", "Last-Modified", "last_modified", "updated", "modified", "mtime")


def is_remote(path: str) -> bool:
    """Whether `path` is an address, not a path of this machine."""
    scheme, found, _ = path.partition("://")
    return (
        bool(found)
        and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.:-]+", scheme) is not None
        and scheme not in ("file", "local")
    )


def without_secrets(address: str) -> str:
    """`address` without user, password and query, where credentials and signatures stand."""
    scheme, _, rest = address.partition("://")
    if scheme in _WEB:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    if scheme not in _AZURE:  # which has the container where others have the user
        host = host.rpartition("@")[2]
    return f"{scheme}://{host}{slash}{path}"


@dataclass(frozen=True)
class RemotePlace:
    """A file of a remote store. `about` is what the store said of it when it was found."""

    filesystem: Any
    path: str
    location: str
    about: Mapping[str, Any]
    allowed: Sequence[str] | None = None

    def open(self) -> io.RawIOBase:
        """Its bytes. Raises SourceError."""
        reached = without_secrets(str(self.about.get("url", self.location)))  # where a web server sent us on to
        if self.allowed is not None and not all(_is_below(place, self.allowed) for place in (self.location, reached)):
            raise SourceError(
                f"the file is at {printable(reached)}, which is no address that may be read",
                where=self.location,
                fix="if it is meant, name its folder in allowed_roots",
            )
        return _RemoteStream(self)

    def size(self) -> int:
        """How many bytes that are, or 0."""
        return int(self.about.get("size") or 0)

    def failed(self, error: Exception) -> SourceError:
        """The error for what the store's library raised."""
        return _explain(error, self.location)


def find(pattern: str, allowed_roots: Sequence[str] | None) -> list[tuple[RemotePlace, str, str | None]]:
    """Place, location and token of every file that `pattern` names. Raises SourceError or ConfigError."""
    where = printable(without_secrets(pattern))
    filesystem, path, scheme = _connect(pattern, where)
    try:
        entries = list(_list(filesystem, path, scheme))
    except Exception as error:  # noqa: BLE001 - a store raises whatever its library raises
        raise _explain(error, where) from None
    located = [(about, _location(pattern, scheme, about["name"])) for about in entries]
    return [
        (RemotePlace(filesystem, about["name"], location, about, allowed_roots), location, _token(about))
        for about, location in located
    ]


def _connect(pattern: str, where: str) -> tuple[Any, str, str]:
    """The file system of an address, its path there and its scheme."""
    import fsspec  # type: ignore[import-untyped]

    scheme = pattern.partition("://")[0].lower()
    if "::" in pattern or ".." in urlsplit(pattern).path.split("/"):
        raise ConfigError("an address may hold neither `..` nor `::`", where=where, fix="write it out in path")
    try:
        filesystem, path = fsspec.url_to_fs(pattern, **_options(scheme))
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        fix = f"pip install {package}" if package else str(error)
        raise ConfigError(f"{scheme}:// needs a package that is not installed", where=where, fix=fix) from None
    except ValueError as error:
        if "Protocol not known" in str(error):
            raise ConfigError(
                f"nothing is known of {scheme}://", where=where, fix="mend path in penstock.yml"
            ) from None
        raise _explain(error, where) from None
    except Exception as error:  # noqa: BLE001 - as above
        raise _explain(error, where) from None
    if scheme in _S3:
        filesystem.retries = TRIES
    return filesystem, path, scheme


def _options(scheme: str) -> dict[str, Any]:
    """Time limits, and no listing from before: what the libraries leave open or set for other uses."""
    if scheme in _S3:
        limits = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": ANSWER_SECONDS,
            "retries": {"total_max_attempts": 1},
        }
        return {"config_kwargs": limits, "use_listings_cache": False}
    if scheme in _WEB:
        import aiohttp

        # A large file takes longer than the 5 minutes that all of an answer may take by default. The bytes are
        # wanted as they are stored, since only our own unpacking proves them whole.
        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
        return {
            "client_kwargs": {"timeout": limit, "auto_decompress": False, "trust_env": True},
            "headers": {"Accept-Encoding": "identity"},
            "use_listings_cache": False,
        }
    if scheme in ("sftp", "ssh"):
        return {"timeout": CONNECT_SECONDS, "banner_timeout": CONNECT_SECONDS}
    if scheme in (*_GOOGLE, *_AZURE):
        return {"use_listings_cache": False}
    return {}


def _list(filesystem: Any, path: str, scheme: str) -> Iterator[dict[str, Any]]:
    """What the store says of every file that fits.

    fsspec's own glob leaves out a folder whose listing fails, so folders are listed one after the other here.
    """
    parts = path.split("/")
    wild = next((number for number, part in enumerate(parts) if has_wildcard(part)), None)
    if scheme in _WEB:  # a question mark begins the query there
        wild = next((number for number, part in enumerate(parts) if "*" in part.partition("?")[0]), None)
    if wild is None:
        about = filesystem.info(path)
        if about["type"] != "file":
            raise IsADirectoryError(path)
        yield about
        return
    folder, rest = "/".join(parts[:wild]), parts[wild:]
    for about in _below(filesystem, folder, rest):
        names = about["name"].removeprefix(folder).strip("/").split("/")
        if about["type"] == "file" and matches(names, rest):
            yield about


def _below(filesystem: Any, folder: str, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    if parts[0] == "**":
        # On a store of objects this is one list instead of one for each folder.
        yield from filesystem.find(folder, detail=True).values()
        return
    for about in filesystem.ls(folder, detail=True):
        name = about["name"].rstrip("/").rpartition("/")[2]
        if not fits(name, parts[0]):
            continue
        if len(parts) == 1:
            yield about
        elif about["type"] == "directory":
            yield from _below(filesystem, about["name"], parts[1:])


def _location(pattern: str, scheme: str, name: str) -> str:
    """The address of a file from its name in the store, where the host is left out by some."""
    if is_remote(name):
        return printable(without_secrets(name))
    address = urlsplit(pattern)
    host = without_secrets(f"{scheme}://{address.netloc}").partition("://")[2]
    if name.startswith("/") and name.split("/")[1] != host:
        return printable(f"{scheme}://{host}{name}")
    return printable(f"{scheme}://{name.lstrip('/')}")


def _is_below(location: str, prefixes: Sequence[str]) -> bool:
    addresses = [prefix.rstrip("/") for prefix in prefixes if is_remote(prefix)]
    return any(location == address or location.startswith(f"{address}/") for address in addresses)


def _token(about: Mapping[str, Any]) -> str | None:
    """What tells this version from any other. A modification time does not: it can be set, and is coarse."""
    mark = next((str(about[name]) for name in _MARKS if about.get(name)), "")
    if not mark or mark.startswith("W/"):  # a weak one says that two versions mean the same
        return None
    if "Last-Modified" in about:
        # Many web servers make the mark from time and size; it is sure only once their clock has moved on.
        modified = email.utils.parsedate_to_datetime(about["Last-Modified"])
        if datetime.now(UTC) - modified.replace(tzinfo=modified.tzinfo or UTC) < timedelta(seconds=60):
            return None
    return f"{mark.strip(chr(34))}-{about.get('size')}"


class _RemoteStream(RewindableStream):
    """The bytes of one version of a remote file; an error at the end when there was more than one, or less of it."""

    def __init__(self, place: RemotePlace) -> None:
        self._place = place
        self._is_web = place.path.startswith(("http://", "https://"))
        self._head, self._known_head = b"", b""
        try:
            self._about = place.about if self._is_web else place.filesystem.info(place.path)
            self._file = self._opened()
        except Exception as error:  # noqa: BLE001 - a store raises whatever its library raises
            raise place.failed(error) from None

    def _opened(self) -> Any:
        options: dict[str, Any] = {"block_size": READ_AHEAD_BYTES}
        if self._is_web:  # one answer for all of the file: parts asked for one by one could be of several versions
            options = {"block_size": 0, "size": self._place.size() or 1}
        return self._place.filesystem.open(self._place.path, "rb", **options)

    def _rewind(self) -> None:
        if not self._position:
            return
        try:
            if self._is_web:
                self._file.close()
                self._file = self._opened()
                self._known_head, self._head = self._head, b""
            else:
                self._file.seek(0)
        except Exception as error:  # noqa: BLE001 - as above
            raise self._place.failed(error) from None

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        try:
            data = self._file.read(len(view)) if len(view) else b""
            if not data and len(view):
                self._check()
        except SourceError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            raise self._place.failed(error) from None
        view[: len(data)] = data
        self._position += len(data)
        if self._is_web and len(self._head) < _HEAD_BYTES:
            self._compare_head(data)
        return len(data)

    def _compare_head(self, data: bytes) -> None:
        self._head += data[:_HEAD_BYTES]
        length = min(len(self._head), len(self._known_head))
        if self._head[:length] != self._known_head[:length]:
            raise self._changed()

    def _check(self) -> None:
        """Raises SourceError when what was read is not all of one version."""
        expected = self._about.get("size")
        if expected is not None and self._position < expected:
            raise SourceError(
                f"the file is cut short: {self._position:,} of {expected:,} bytes came",
                where=self._place.location,
                fix="run again",
            )
        if not self._is_web:
            now = self._place.filesystem.info(self._place.path)
            if any(now.get(name) != self._about.get(name) for name in _CHANGES):
                raise self._changed()

    def _changed(self) -> SourceError:
        return SourceError("the file changed while it was read", where=self._place.location, fix="run again")

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()


def _explain(error: Exception, where: str) -> SourceError:
    """What happened in words of our own: the libraries' may hold an address with its signature."""
    what, fix = "", "run again; if it stays, see whether the store is up"
    status = _status(error)
    first, *_ = chain = list(_chain(error))
    for one in chain:
        name = type(one).__name__
        if name == "FileExpired" or status == 412:
            what, fix = "the file changed while it was read", "run again"
        elif name in ("NoCredentialsError", "PartialCredentialsError"):
            what, fix = "there are no credentials for the store", "set them in the environment, as its library has it"
        elif status in (401, 403) or isinstance(one, PermissionError):
            what, fix = "access is denied", "mend the rights, or the credentials in the environment"
        elif status == 404 or (isinstance(one, FileNotFoundError) and one is first):
            what, fix = "no such file, folder or bucket is there", "mend path in penstock.yml"
        elif "SSL" in name or "Certificate" in name:
            what, fix = "the connection cannot be made secure", "see the certificate and the scheme of the address"
        elif isinstance(one, IsADirectoryError):
            what, fix = "it is a folder, not a file", "mend path in penstock.yml, say with /* at its end"
        elif status is not None:
            what = f"the server answers {status}"
        elif isinstance(one, TimeoutError) or "Timeout" in name:
            what = "the store does not answer in time"
        elif isinstance(one, ConnectionError) or "Connect" in name or "gaierror" in name:
            what, fix = "the store cannot be reached", "mend its address or endpoint, or see whether it is up"
        if what:
            break
    what = what or f"the file cannot be read: {_scrubbed(error)}"
    return SourceError(what, where=where, fix=fix)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, the first cause first."""
    causes: list[BaseException] = []
    while error is not None and len(causes) < 10:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return reversed(causes)


def _status(error: BaseException) -> int | None:
    """The HTTP status in an error of aiohttp or boto."""
    for one in _chain(error):
        status = getattr(one, "status", None)
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(status, int):
            return status
    return None


def _scrubbed(error: Exception) -> str:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return re.sub(r"\?[^\s'\"<>)]*", "?...", re.sub(r"(\w://)[^\s/@]*@", r"\1", text))
