"""Files of a store: found, unpacked, proven whole, and refused where they may not or cannot be read."""

import bz2
import gzip
import io
import lzma
import os
import random
import socket
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from foundation.errors import ConfigError, SourceError
from ingestion.stores import StoredFile, find_files

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINES = b"".join(b"%d,name of %d\n" % (number, number) for number in range(20_000))
NOISE = random.Random(1).randbytes(50_000)
SKIPPED = b"\x53\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"


def zstd_with_sum(data: bytes) -> bytes:
    return zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1})


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd_with_sum,
    "zstd without a sum": zstd.compress,
}
packers = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[bytes], StoredFile]:
    def store(data: bytes) -> StoredFile:
        path = tmp_path / "input.csv"
        path.write_bytes(data)
        return StoredFile(path, "input.csv")

    return store


def read(file: StoredFile, size: int = 1_000_000) -> bytes:
    with file.open() as stream:
        return b"".join(iter(lambda: stream.read(size), b""))


def locations(root: Path, pattern: str, allowed: list[str] | None = None) -> list[str]:
    return [file.location for file in find_files(root, pattern, allowed)]


def refusal(file: StoredFile) -> str:
    with pytest.raises(SourceError) as raised:
        file.open()
    return raised.value.one_line()


# packed files


@packers
def test_a_packed_file_is_known_by_its_content(
    pack: Callable[[bytes], bytes], stored: Callable[[bytes], StoredFile]
) -> None:
    assert read(stored(pack(LINES))) == LINES
    assert read(stored(pack(b""))) == b""


@packers
def test_members_one_after_the_other_are_one_file(
    pack: Callable[[bytes], bytes], stored: Callable[[bytes], StoredFile]
) -> None:
    assert read(stored(pack(LINES) + pack(b"") + pack(NOISE)), 777) == LINES + NOISE


@packers
def test_a_packed_file_gives_lines_and_whole_blocks_and_begins_anew(
    pack: Callable[[bytes], bytes], stored: Callable[[bytes], StoredFile]
) -> None:
    with stored(pack(LINES)).open() as stream:
        assert stream.readline() == b"0,name of 0\n"
        stream.seek(0)
        assert stream.read(200_000) == LINES[:200_000]
        assert stream.read(10_000_000) == LINES[200_000:]
        stream.seek(0)
        assert stream.read() == LINES


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_file_is_sought_at_its_start_and_nowhere_else(
    pack: Callable[[bytes], bytes], stored: Callable[[bytes], StoredFile]
) -> None:
    with stored(pack(LINES)).open() as stream:
        for offset, whence in ((100_000_000, io.SEEK_SET), (0, io.SEEK_END)):
            with pytest.raises(io.UnsupportedOperation, match="from its start"):
                stream.seek(offset, whence)
        assert stream.read() == LINES


@packers
def test_a_packed_file_that_is_cut_anywhere_never_ends_quietly(
    pack: Callable[[bytes], bytes], stored: Callable[[bytes], StoredFile]
) -> None:
    first, second = pack(b"some,text\n" * 40), pack(NOISE[:300])
    for cut in range(4, len(first + second)):
        if cut != len(first):
            with pytest.raises((OSError, EOFError)):
                read(stored((first + second)[:cut]))


@packers
@pytest.mark.parametrize("garbage", [b"x", b"garbage after the end", b"\0\0\0\0more"])
def test_garbage_after_packed_data_is_an_error(
    pack: Callable[[bytes], bytes], garbage: bytes, stored: Callable[[bytes], StoredFile]
) -> None:
    with pytest.raises((OSError, EOFError)):
        read(stored(pack(LINES) + garbage))


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])
def test_a_wrong_byte_in_packed_data_is_an_error(name: str, stored: Callable[[bytes], StoredFile]) -> None:
    packed = bytearray(PACKERS[name](NOISE))
    packed[30_000] ^= 1
    with pytest.raises((OSError, EOFError), match=f"its {name} data is broken"):
        read(stored(bytes(packed)))


def test_zeros_after_gzip_and_skipped_frames_of_zstd_are_no_data(stored: Callable[[bytes], StoredFile]) -> None:
    assert read(stored(gzip.compress(LINES) + bytes(10_240))) == LINES
    assert read(stored(SKIPPED + zstd.compress(LINES) + SKIPPED + zstd.compress(NOISE))) == LINES + NOISE


def test_a_packed_file_of_enormous_size_is_read_in_bounded_memory(stored: Callable[[bytes], StoredFile]) -> None:
    member = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    with stored(member * 4).open() as stream:
        total = sum(len(block) for block in iter(lambda: stream.read(1_000_000), b""))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 200_000_000
    assert peak < 20_000_000


@pytest.mark.parametrize(
    ("head", "what"), [(b"PK\x03\x04", "zip"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07", "RAR")]
)
def test_an_archive_is_named_as_what_it_is(head: bytes, what: str, stored: Callable[[bytes], StoredFile]) -> None:
    assert what in refusal(stored(head + NOISE))


@pytest.mark.parametrize("data", [b"", b"a", b"\x1f", b"BZh9 is a name\n", LINES])
def test_other_bytes_are_given_as_they_are(data: bytes, stored: Callable[[bytes], StoredFile]) -> None:
    file = stored(data)
    assert read(file) == data
    assert file.size() == len(data)


# files that change


def test_a_file_that_grows_while_it_is_read_is_read_on(stored: Callable[[bytes], StoredFile], tmp_path: Path) -> None:
    with stored(LINES * 20).open() as stream:
        head = stream.read(100_000)
        with (tmp_path / "input.csv").open("ab") as writer:
            writer.write(b"more\n")
        assert head + stream.read() == LINES * 20 + b"more\n"


def test_a_file_that_somebody_touches_while_it_is_read_has_not_changed(
    stored: Callable[[bytes], StoredFile], tmp_path: Path
) -> None:
    with stored(LINES).open() as stream:
        os.utime(tmp_path / "input.csv")
        assert stream.read() == LINES


def test_a_file_that_another_takes_the_place_of_is_read_to_its_own_end(
    stored: Callable[[bytes], StoredFile], tmp_path: Path
) -> None:
    with stored(LINES * 20).open() as stream:
        head = stream.read(10)
        (tmp_path / "new").write_bytes(NOISE)
        (tmp_path / "new").replace(tmp_path / "input.csv")
        assert head + stream.read() == LINES * 20


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(LINES, id="cut"),
        pytest.param(b"", id="emptied"),
        pytest.param(LINES * 19 + LINES.swapcase(), id="rewritten behind the reader"),
        pytest.param(LINES.swapcase() * 21, id="rewritten longer"),
    ],
)
def test_a_file_that_is_rewritten_or_cut_while_it_is_read_is_an_error(
    changed: bytes, stored: Callable[[bytes], StoredFile], tmp_path: Path
) -> None:
    with stored(LINES * 20).open() as stream:
        stream.read(len(LINES) * 19 + 100_000)
        (tmp_path / "input.csv").write_bytes(changed)
        with pytest.raises(SourceError, match=r"changed while it was read \(input.csv\): run again"):
            stream.read()


def test_a_file_that_loses_an_end_which_nobody_has_read_is_an_error(
    stored: Callable[[bytes], StoredFile], tmp_path: Path
) -> None:
    with stored(LINES * 20).open() as stream:
        stream.read(100)
        os.truncate(tmp_path / "input.csv", len(LINES) * 15)
        with pytest.raises(SourceError, match="changed while it was read"):
            stream.read()


def test_a_file_that_is_rewritten_before_it_is_read_anew_is_an_error(
    stored: Callable[[bytes], StoredFile], tmp_path: Path
) -> None:
    with stored(LINES * 20).open() as stream:
        stream.read(3_000_000)
        (tmp_path / "input.csv").write_bytes(NOISE * 200)
        with pytest.raises(SourceError, match="changed while it was read"):
            stream.seek(0)


# tokens


def age(path: Path) -> None:
    """Wait until the file is older than the grain of any clock."""
    time.sleep(max(0.0, 2.05 - (time.time() - path.stat().st_ctime)))


def test_the_token_of_a_file_is_that_of_its_version(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(LINES)
    assert find_files(tmp_path, "a.csv")[0].token is None, "a write in the same moment would not show"
    age(path)
    first = find_files(tmp_path, "a.csv")[0].token
    assert first is not None
    assert find_files(tmp_path, "*.csv")[0].token == first

    about = path.stat()
    path.write_bytes(LINES.swapcase())
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # as rsync and cp -p set it
    age(path)
    assert find_files(tmp_path, "a.csv")[0].token not in (None, first)


# which files a path names


def test_files_come_sorted_and_named_from_the_root(tmp_path: Path) -> None:
    root = tmp_path / "pro[j]e*ct"
    for name in ("in/b.csv", "in/a.csv", "in/deep/er/c.csv", "in/.hidden.csv", "in/.git/d.csv", "in/readme.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert locations(root, "in/*.csv") == ["in/a.csv", "in/b.csv"]
    assert locations(root, "in/**/*.csv") == ["in/a.csv", "in/b.csv", "in/deep/er/c.csv"]
    assert locations(root, "**/c.csv") == ["in/deep/er/c.csv"]
    assert locations(root, "in/**") == ["in/a.csv", "in/b.csv", "in/deep/er/c.csv", "in/readme.txt"]
    assert locations(root, "in/*") == ["in/a.csv", "in/b.csv", "in/readme.txt"]
    assert locations(root, "in/.*.csv") == ["in/.hidden.csv"]
    assert locations(root, "*/deep/*/c.csv") == ["in/deep/er/c.csv"]
    assert locations(root, "in/deep/../[ab].csv") == ["in/a.csv", "in/b.csv"]
    assert locations(root, f"{root}/in/a.csv") == ["in/a.csv"]
    assert locations(root, f"file://{root}/in/a.csv") == ["in/a.csv"]
    assert locations(tmp_path, f"{tmp_path}/pro?j?e?ct/in/a.csv") == ["pro[j]e*ct/in/a.csv"]
    assert locations(tmp_path / "elsewhere", f"{root}/in/a.csv".replace("[", "[[]")) == [f"{root}/in/a.csv"]


@pytest.mark.parametrize("pattern", ["in/nothing.csv", "in/*.json", "gone/*.csv", "gone/**/*.csv", "in/a.csv/*.csv"])
def test_a_path_that_names_nothing_is_an_error(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").touch()
    with pytest.raises(SourceError, match="no file is there"):
        find_files(tmp_path, pattern)


def test_a_name_that_reads_as_a_pattern_is_found(tmp_path: Path) -> None:
    (tmp_path / "export[1].csv").touch()
    assert locations(tmp_path, "export[1].csv") == ["export[1].csv"]


@pytest.mark.parametrize(
    ("name", "location"),
    [
        (b"caf\xe9.csv", "caf\\xe9.csv"),
        (b"two\nlines.csv", "two\\x0alines.csv"),
        (b"a space.csv", "a space.csv"),
        ("größe.csv".encode(), "größe.csv"),
        ("\u202evsc.csv".encode(), "\\u202evsc.csv"),
    ],
)
def test_any_name_can_be_read_and_printed(name: bytes, location: str, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(LINES)
    (file,) = find_files(tmp_path, "*.csv")
    assert file.location == location
    assert read(file) == LINES
    file.location.encode()


def test_two_names_that_would_be_one_in_raw_are_an_error(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.csv")).touch()
    (tmp_path / "caf\\xe9.csv").touch()
    with pytest.raises(SourceError, match="rename one"):
        find_files(tmp_path, "*.csv")


def test_links_that_lead_back_up_are_walked_once(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.csv").touch()
    for number in range(12):
        (folder / f"up{number}").symlink_to(tmp_path / "in")
        (tmp_path / "in" / f"down{number}").symlink_to(folder)
    assert locations(tmp_path, "in/**/*.csv") == ["in/deep/a.csv"]


def test_what_is_no_file_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "dangling.csv").symlink_to("nowhere")
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket may hold about 100 characters
        listener.bind("socket.csv")
        os.chdir(here)
        (tmp_path / "good.csv").write_bytes(LINES)
        refusals = {
            file.location: refusal(file) for file in find_files(tmp_path, "*.csv") if file.location != "good.csv"
        }
    reasons = {name: message.split("read: ")[1].split(" (")[0] for name, message in refusals.items()}
    assert reasons == {
        "dangling.csv": "it is a link to what is not there",
        "folder.csv": "it is a folder",
        "loop.csv": "Too many levels of symbolic links",
        "pipe.csv": "it is a named pipe",
        "socket.csv": "it is a socket",
    }
    (good,) = [file for file in find_files(tmp_path, "*.csv") if file.location == "good.csv"]
    assert read(good) == LINES


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_a_device_is_refused() -> None:
    assert "it is a device" in refusal(StoredFile(Path("/dev/zero"), "zero"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_or_folder_without_permission_is_told(tmp_path: Path) -> None:
    (tmp_path / "in" / "closed").mkdir(parents=True)
    (tmp_path / "in" / "a.csv").touch(mode=0)
    assert "Permission denied" in refusal(find_files(tmp_path, "in/a.csv")[0])
    (tmp_path / "in" / "closed").chmod(0)
    with pytest.raises(SourceError, match=r"Permission denied.*closed"):
        find_files(tmp_path, "in/**/*.csv")
    with pytest.raises(SourceError, match=r"Permission denied.*closed"):
        find_files(tmp_path, "in/closed/a.csv")


# where files may lie


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A project beside a folder with files, and links to them in its inbox."""
    (tmp_path / "shared" / "deep").mkdir(parents=True)
    (tmp_path / "shared" / "a.csv").write_bytes(LINES)
    (tmp_path / "shared" / "deep" / "b.csv").write_bytes(LINES)
    (tmp_path / "project" / "inbox").mkdir(parents=True)
    (tmp_path / "project" / "own").mkdir()
    (tmp_path / "project" / "own" / "c.csv").write_bytes(LINES)
    (tmp_path / "project" / "inbox" / "link.csv").symlink_to(tmp_path / "shared" / "a.csv")
    (tmp_path / "project" / "linked").symlink_to(tmp_path / "shared")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "allowed", "is_open"),
    [
        pytest.param("inbox/*.csv", None, False, id="a link out of the project"),
        pytest.param("inbox/link.csv", None, False, id="a link out of the project, named"),
        pytest.param("inbox/*.csv", ["inbox", "../shared"], True, id="to a folder that is named"),
        pytest.param("inbox/*.csv", ["../shared/deep"], False, id="to the folder above one that is named"),
        pytest.param("linked/*.csv", None, True, id="the path itself names the linked folder"),
        pytest.param("linked/**/b.csv", None, True, id="below the linked folder"),
        pytest.param("../shared/*.csv", None, True, id="the path itself leads out"),
        pytest.param("../shared/a.csv", None, True, id="the path itself leads out to one file"),
        pytest.param("own/*.csv", ["../shared/deep"], True, id="the project itself, whatever is named"),
        pytest.param("../shared/a.csv", ["inbox"], False, id="named folders hold for the path itself too"),
        pytest.param("inbox/../../shared/a.csv", ["inbox"], False, id="dots are followed first"),
        pytest.param("../shared/a.csv", ["../sha"], False, id="a folder whose name only begins alike"),
        pytest.param("../shared/a.csv", [], False, id="no folder at all"),
        pytest.param("../shared/a.csv", ["s3://shared"], False, id="an address is no folder"),
    ],
)
def test_a_file_must_lead_to_a_folder_that_may_be_read(
    pattern: str, allowed: list[str] | None, is_open: bool, shared: Path
) -> None:
    (file,) = find_files(shared / "project", pattern, allowed)
    if is_open:
        assert read(file) == LINES
    else:
        assert f"leads to {shared}/shared/a.csv" in (message := refusal(file))
        assert "allowed_roots" in message


# remote files that need no network


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gs://bucket/a.csv", "gs:// needs a package that is not installed (gs://bucket/a.csv): pip install gcsfs"),
        ("sftp://me:hidden@host/a.csv", "(sftp://host/a.csv): pip install paramiko"),
        ("nonsense://host/a.csv", "nothing is known of nonsense:// (nonsense://host/a.csv)"),
        ("simplecache::s3://bucket/a.csv", "neither `..` nor `::`"),
        ("https://host/a/../b.csv", "neither `..` nor `::`"),
    ],
)
def test_an_address_that_cannot_be_used_says_what_to_do(address: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        find_files(tmp_path, address)
    assert message in raised.value.one_line()
    assert "hidden" not in raised.value.one_line()


def test_any_store_of_fsspec_can_be_read(tmp_path: Path) -> None:
    import fsspec  # type: ignore[import-untyped]

    memory = fsspec.filesystem("memory")
    for name in ("/stores_test/a/one.csv", "/stores_test/b/two.csv", "/stores_test/b/.hidden.csv"):
        memory.pipe(name, gzip.compress(LINES))
    try:
        found = find_files(tmp_path, "memory://stores_test/*/*.csv")
        assert [file.location for file in found] == ["memory://stores_test/a/one.csv", "memory://stores_test/b/two.csv"]
        assert locations(tmp_path, "memory://stores_test/**/two.csv") == ["memory://stores_test/b/two.csv"]
        assert [read(file) for file in found] == [LINES, LINES]
        assert found[0].size() == len(gzip.compress(LINES))
        assert found[0].token is None
        with pytest.raises(SourceError, match="no file is there"):
            find_files(tmp_path, "memory://stores_test/a/*.json")
        with pytest.raises(SourceError, match="no such file"):
            find_files(tmp_path, "memory://stores_test/a/two.csv")
    finally:
        memory.rm("/stores_test", recursive=True)


def test_no_store_is_imported_before_a_path_names_it() -> None:
    import subprocess

    check = "import sys, ingestion.stores; assert not {'s3fs', 'aiohttp', 'botocore', 'fsspec'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
