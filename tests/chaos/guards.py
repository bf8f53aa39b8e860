"""Guards taken out of a process one at a time, to see that the suite notices what they are there for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any


def remove(name: str) -> None:
    """Take a guard out of this process."""
    REMOVALS[name]()


def _run_lock() -> None:
    from operations import run

    run.run_lock = lambda *_: nullcontext()  # type: ignore[assignment, misc]


def _warehouse_lock() -> None:
    from foundation import warehouse
    from operations import run

    run.hold_warehouse = warehouse.hold_warehouse = lambda _: nullcontext(lambda: None)  # type: ignore[assignment]


def _file_ledger() -> None:
    from ingestion import ingest
    from ingestion.state import State

    ingest.read_state = lambda _: State()


def _load_time() -> None:
    from ingestion.state import State

    State.load_time = lambda _self, now: now  # type: ignore[method-assign]


def _change_time() -> None:
    from ingestion.stores import local

    def token(path: Path) -> str:
        about = path.stat()
        return f"{about.st_size}-{about.st_mtime_ns}"

    local._token = token


def _total() -> None:
    from ingestion.readers.apis.walk import Walk

    Walk._check_total = lambda _: None  # type: ignore[method-assign]
    Walk._note_total = lambda *_: None  # type: ignore[method-assign]


def _end_of_file() -> None:
    """What is cut off a packed file passes for its end."""
    from ingestion.stores.packing import _Unpacked

    original = _Unpacked.readinto

    def readinto(self: Any, buffer: Any) -> int:
        try:
            return original(self, buffer)
        except EOFError:
            return 0

    _Unpacked.readinto = readinto  # type: ignore[method-assign]


def _sweep() -> None:
    from ingestion import landing

    class Kept:
        @staticmethod
        def rmtree(*_: Any, **__: Any) -> None:
            """Leave everything where it is."""

    landing.shutil = Kept  # type: ignore[attr-defined, misc, assignment]


def _books() -> None:
    from operations.accounts.books import SourceBook

    SourceBook.gap = property(lambda _: "")  # type: ignore[assignment, method-assign]


def _gate() -> None:
    from operations.gate import Verdict

    Verdict.stop_if_closed = lambda _: None  # type: ignore[method-assign]


def _one_transaction() -> None:
    from publishing.publish import _Publication

    original = _Publication._change

    def change(self: Any, work: Any) -> Any:
        delta = original(self, work)
        self._connection.execute("commit")
        self._connection.execute("begin")
        return delta

    _Publication._change = change  # type: ignore[method-assign]


def _atomic_rename() -> None:
    """A file is written over in two halves, and not put in the place of the one before."""
    from foundation.failpoints import failpoint

    def replace_slowly(self: Path, target: Path) -> Path:
        data = self.read_bytes()
        target.write_bytes(data[: len(data) // 2])
        failpoint("guard.half_written")
        target.write_bytes(data)
        self.unlink()
        return target

    Path.replace = replace_slowly  # type: ignore[method-assign, assignment]


def _commit_outcome() -> None:
    from publishing import releases

    releases._was_committed = lambda *_: False


def _release_row() -> None:
    from publishing import releases

    releases._is_written = lambda *_: False


def _publisher_lock() -> None:
    from publishing import target

    target._become_only_publisher = lambda _: None


REMOVALS: dict[str, Callable[[], None]] = {
    "run lock": _run_lock,
    "warehouse lock": _warehouse_lock,
    "file ledger": _file_ledger,
    "load time": _load_time,
    "change time": _change_time,
    "total": _total,
    "end of file": _end_of_file,
    "sweep": _sweep,
    "books": _books,
    "gate": _gate,
    "one transaction": _one_transaction,
    "atomic rename": _atomic_rename,
    "commit outcome": _commit_outcome,
    "release row": _release_row,
    "publisher lock": _publisher_lock,
}


@contextmanager
def removed_here(name: str) -> Iterator[None]:
    """A guard of publishing taken out of this process for a while."""
    from publishing import releases, target

    held = releases._was_committed, releases._is_written, target._become_only_publisher
    remove(name)
    try:
        yield
    finally:
        releases._was_committed, releases._is_written, target._become_only_publisher = held
