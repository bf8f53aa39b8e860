"""Files on an S3 server and a web server of this machine: listed in full, one version each, faults told in time."""

import contextlib
import gzip
import http.server
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundation.errors import PenstockError, SourceError
from foundation.sources import CsvSource, ParquetSource
from ingestion.parcels import Batch
from ingestion.readers.csv_files.files import read_csv_file
from ingestion.readers.parquet_files.files import read_parquet_file
from ingestion.stores import StoredFile, find_files, remote
from tests.arrow import known_after, rows_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINES = b"id,name\n" + b"".join(b"%d,name of %d\n" % (number, number) for number in range(50_000))
SOURCE = CsvSource(type="csv", path="*.csv")
SECRET = "not-to-be-seen"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A file system of s3fs on a server of moto, which the environment leads to."""
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    s3fs = pytest.importorskip("s3fs")
    port = _free_port()
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("w") as out, pytest.MonkeyPatch.context() as patch:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=out, stderr=out
        )
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        }.items():
            patch.setenv(name, value)
        try:
            _wait_for(f"http://127.0.0.1:{port}/moto-api/", server, log)
            filesystem = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
            filesystem.mkdir("penstock-test")
            yield filesystem
        finally:
            server.terminate()
            server.wait()
            s3fs.S3FileSystem.clear_instance_cache()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def find(address: str, allowed: list[str] | None = None) -> list[StoredFile]:
    return find_files(Path("/nowhere"), address, allowed)


def read(file: StoredFile) -> bytes:
    with file.open() as stream:
        return stream.read()


def failure(address: str, allowed: list[str] | None = None) -> str:
    """The message when the file of an address is found, opened and read."""
    with pytest.raises(PenstockError) as raised:
        read(find(address, allowed)[0])
    assert SECRET not in raised.value.one_line()
    return raised.value.one_line()


def test_every_object_is_found_beyond_one_page_of_a_listing(s3: Any) -> None:
    names = [f"penstock-test/many/{number:04}.csv" for number in range(1_100)]
    s3.pipe(dict.fromkeys(names, b"id\n1\n"))
    s3.pipe({"penstock-test/many/.hidden.csv": b"x", "penstock-test/many/readme.txt": b"x"})
    s3.pipe({"penstock-test/many/deep/er/one.csv": b"x", "penstock-test/manyfold/two.csv": b"x"})
    expected = [f"s3://{name}" for name in names]
    deep = "s3://penstock-test/many/deep/er/one.csv"
    assert [file.location for file in find("s3://penstock-test/many/*.csv")] == expected
    assert [file.location for file in find("s3://penstock-test/many/**/*.csv")] == [*expected, deep]
    assert [file.location for file in find("s3://penstock-test/many/*/er/*.csv")] == [deep]
    assert [file.location for file in find("s3://penstock-test/many*/two.csv")] == [
        "s3://penstock-test/manyfold/two.csv"
    ]
    assert len(find("s3://penstock-test/many/00[0-4]?.csv")) == 50
    with pytest.raises(SourceError, match="no file is there"):
        find("s3://penstock-test/many/*.json")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress], ids=["plain", "gzip", "zstd"])
def test_an_object_is_read_as_a_file_is_whatever_packs_it(pack: Any, s3: Any, batch: Batch) -> None:
    s3.pipe("penstock-test/packed", pack(LINES))
    (file,) = find("s3://penstock-test/packed")
    assert read(file) == LINES
    assert file.size() == len(pack(LINES))
    parcels = list(read_csv_file(file, "hr__employees", SOURCE, None, batch, lambda _: None))
    assert len(rows_of(parcels)) == 50_000
    assert parcels[0].loads[0].location == "s3://penstock-test/packed"


def test_an_object_that_is_cut_short_inside_its_packing_is_an_error(s3: Any) -> None:
    s3.pipe("penstock-test/cut.gz", gzip.compress(LINES)[:-100])
    with pytest.raises(EOFError, match="cut short"):
        read(find("s3://penstock-test/cut.gz")[0])


def test_an_object_written_anew_with_more_lines_is_read_on(s3: Any, batch: Batch) -> None:
    s3.pipe("penstock-test/grown.csv", b"id,name\n1,a\n")
    (before,) = find("s3://penstock-test/grown.csv")
    (parcel,) = read_csv_file(before, "hr__employees", SOURCE, None, batch, lambda _: None)
    known = known_after([parcel])

    (same,) = find("s3://penstock-test/*grown.csv")
    assert before.token is not None
    assert same.token == before.token
    s3.pipe("penstock-test/grown.csv", b"id,name\n1,a\n2,b\n")
    (after,) = find("s3://penstock-test/grown.csv")
    assert after.token not in (None, before.token)
    grown = list(read_csv_file(after, "hr__employees", SOURCE, known, batch, lambda _: None))
    assert rows_of(grown) == [(3, "2", "b")]
    assert grown[0].loads[0].start_bytes == 12


def test_a_parquet_object_is_read_as_a_file_is(s3: Any, batch: Batch, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "name": ["a", None]}), tmp_path / "input.parquet")
    s3.put(str(tmp_path / "input.parquet"), "penstock-test/input.parquet")
    (file,) = find("s3://penstock-test/*.parquet")
    source = ParquetSource(type="parquet", path="s3://penstock-test/*.parquet")
    parcels = list(read_parquet_file(file, "hr__employees", source, None, batch, lambda _: None))
    assert rows_of(parcels) == [(1, "1", "a"), (2, "2", None)]


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "READ_AHEAD_BYTES", 5_000_000)
    s3.pipe("penstock-test/replaced.csv", LINES * 20)
    with find("s3://penstock-test/replaced.csv")[0].open() as stream:
        assert stream.read(100) == LINES[:100]
        s3.pipe("penstock-test/replaced.csv", LINES.swapcase() * 20)
        with pytest.raises(SourceError, match=r"changed while it was read \(s3://penstock-test/replaced.csv\)"):
            stream.read()


def test_an_object_that_is_replaced_before_its_end_was_looked_at_is_an_error_too(s3: Any) -> None:
    s3.pipe("penstock-test/late.csv", LINES)
    with find("s3://penstock-test/late.csv")[0].open() as stream:
        assert stream.read(100) == LINES[:100]  # and all the rest ahead
        s3.pipe("penstock-test/late.csv", LINES.swapcase())
        with pytest.raises(SourceError, match="changed while it was read"):
            stream.read()


def test_what_is_not_there_is_told(s3: Any) -> None:
    s3.pipe("penstock-test/folder/a.csv", LINES)
    assert "no such file, folder or bucket is there (s3://penstock-test/gone.csv)" in failure(
        "s3://penstock-test/gone.csv"
    )
    for name in ("a.csv", "*.csv", "**/*.csv"):
        message = "no such file, folder or bucket is there"
        assert f"{message} (s3://no-such-bucket/{name})" in failure(f"s3://no-such-bucket/{name}")
    assert "it is a folder" in failure("s3://penstock-test/folder")


@pytest.mark.parametrize("name", ["a.csv", "*.csv", "**/*.csv"])
def test_a_bucket_that_is_closed_is_told(name: str, s3: Any, web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{web}/status/403")
    with another_endpoint(s3):
        assert f"access is denied (s3://bucket/{name})" in failure(f"s3://bucket/{name}")


@contextlib.contextmanager
def another_endpoint(s3: Any) -> Iterator[None]:
    """A file system remembers the endpoint that it was made for."""
    type(s3).clear_instance_cache()
    yield
    type(s3).clear_instance_cache()


@pytest.mark.parametrize("address", ["s3://bucket/a.csv", "s3://bucket/*.csv", "s3://bucket/**/*.csv"])
def test_a_dead_endpoint_is_told_in_time(address: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{_free_port()}")
    start = time.monotonic()
    with another_endpoint(s3):
        assert f"the store cannot be reached ({address})" in failure(address)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("address", ["s3://bucket/a.csv", "s3://bucket/*.csv"])
def test_an_endpoint_that_never_answers_is_told_in_time(address: str, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 1)
    start = time.monotonic()
    with socket.socket() as deaf, another_endpoint(s3):
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        assert f"the store does not answer in time ({address})" in failure(address)
    assert time.monotonic() - start < 20


def test_credentials_that_are_missing_are_told(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with another_endpoint(s3):
        assert "there are no credentials" in failure("s3://penstock-test/*.csv")


def test_an_address_must_be_one_that_may_be_read(s3: Any) -> None:
    s3.pipe({"penstock-test/open/a.csv": LINES, "penstock-test/opened/a.csv": LINES})
    assert read(find("s3://penstock-test/open/a.csv", ["data", "s3://penstock-test/open/"])[0]) == LINES
    assert "allowed_roots" in failure("s3://penstock-test/opened/a.csv", ["s3://penstock-test/open"])
    assert "allowed_roots" in failure("s3://penstock-test/open/*.csv", ["."])


# the web


class Pages(http.server.BaseHTTPRequestHandler):
    """What each path answers; `Pages.body` can change between the answers."""

    body = LINES
    etag: str | None = '"one"'
    answers = 0

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        place = self.path.partition("?")[0]
        if place.startswith("/status/"):
            self.send_response(int(place.split("/")[2]))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if place == "/moved/a.csv":
            self.send_response(302)
            self.send_header("Location", f"/a.csv?signature={SECRET}")
            self.end_headers()
            return
        self.send_response(200)
        if place != "/unsized.csv":
            self.send_header("Content-Length", str(len(self.body)))
        if place == "/encoded.csv":
            self.send_header("Content-Encoding", "gzip")
        if self.etag:
            self.send_header("ETag", self.etag)
        self.end_headers()
        if with_body:
            Pages.answers += 1
            self.wfile.write(self.body[: len(self.body) // 2 if place == "/short.csv" else None])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    monkeypatch.setattr(Pages, "body", LINES)
    monkeypatch.setattr(Pages, "etag", '"one"')
    monkeypatch.setattr(Pages, "answers", 0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_of_a_web_server_is_read_in_one_answer(web: str) -> None:
    (file,) = find(f"{web}/a.csv?signature={SECRET}&name=*")
    assert file.location == f"{web}/a.csv"
    assert file.token == f"one-{len(LINES)}"
    with file.open() as stream:
        assert stream.readline() == b"id,name\n"
        stream.seek(0)
        assert stream.read() == LINES
    assert Pages.answers == 1


def test_a_file_of_unknown_size_or_marked_as_packed_is_read_whole(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = find(f"{web}/unsized.csv")
    assert file.size() == 0
    assert read(file) == LINES
    monkeypatch.setattr(Pages, "body", gzip.compress(LINES))
    assert read(find(f"{web}/encoded.csv")[0]) == LINES
    monkeypatch.setattr(Pages, "body", gzip.compress(LINES)[:-9])
    with pytest.raises(EOFError):
        read(find(f"{web}/encoded.csv")[0])


def test_a_weak_mark_tells_no_versions_apart(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for etag in ('W/"one"', None):
        monkeypatch.setattr(Pages, "etag", etag)
        assert find(f"{web}/a.csv")[0].token is None


def test_an_answer_that_breaks_off_is_an_error(web: str) -> None:
    assert "short.csv" in failure(f"{web}/short.csv")


def test_a_file_that_is_another_one_when_it_is_asked_for_again_is_an_error(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pages, "body", LINES * 10)
    with find(f"{web}/a.csv")[0].open() as stream:
        stream.read(5_000_000)
        monkeypatch.setattr(Pages, "body", LINES.replace(b"id,name", b"name,id") * 10)
        stream.seek(0)
        with pytest.raises(SourceError, match="changed while it was read"):
            stream.read()


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "access is denied"), (401, "access is denied"), (404, "no such file"), (500, "the server answers 500")],
)
def test_what_a_web_server_refuses_is_told_without_the_signature(status: int, message: str, web: str) -> None:
    assert message in failure(f"{web}/status/{status}?signature={SECRET}")


def test_a_web_server_that_is_not_there_is_told_without_the_password() -> None:
    assert "the store cannot be reached" in failure(f"http://me:{SECRET}@127.0.0.1:{_free_port()}/a.csv?{SECRET}")


def test_a_web_server_may_send_on_only_to_an_address_that_may_be_read(web: str) -> None:
    assert read(find(f"{web}/moved/a.csv")[0]) == LINES
    assert read(find(f"{web}/moved/a.csv", [web])[0]) == LINES
    assert f"the file is at {web}/a.csv" in failure(f"{web}/moved/a.csv", [f"{web}/moved"])


def test_a_connection_that_is_not_secure_is_told(web: str) -> None:
    assert "cannot be made secure" in failure(f"{web.replace('http', 'https')}/a.csv")
