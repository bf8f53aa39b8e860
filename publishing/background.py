"""What is counted and set down in the warehouse beside the work in the target."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from publishing import candidates
from publishing.candidates import Candidate, Fingerprint
from publishing.memory import Memory

if TYPE_CHECKING:
    import duckdb


class Background:
    """A thread with a connection of its own. A warehouse with one connection has it all done at once instead."""

    def __init__(self, warehouse: "duckdb.DuckDBPyConnection", memory: Memory, *, is_file: bool) -> None:
        self._memory, self.is_file = memory, is_file
        self._warehouse = warehouse.cursor() if is_file else warehouse
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._fingerprints: dict[str, Future[Fingerprint]] = {}
        self._checked: dict[str, Future[None]] = {}
        self._noted: list[Future[None]] = []

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)
        if self.is_file:
            self._warehouse.close()

    def begin(self, candidate: Candidate, *, is_sent_whole: bool) -> None:
        """Look for flaws in all rows of a candidate that is sent whole, and measure them."""
        if is_sent_whole:
            rows = candidate.relation
            self._checked[candidate.mart] = self._submit(candidates.refuse_flaws, candidate, rows)
            if not self.is_file:
                self.refuse_flaws(candidate)
        self._measure(candidate)

    def refuse_flaws(self, candidate: Candidate) -> None:
        """Raises PublishError for what was found in the rows of a candidate that is sent whole."""
        if candidate.mart in self._checked:
            self._checked[candidate.mart].result()

    def fingerprint(self, candidate: Candidate) -> Fingerprint:
        """Counts and sums over all rows of a candidate, once they are there."""
        return self._measure(candidate).result()

    def note(self, marts: Sequence[Candidate]) -> None:
        """Set down what is to be remembered of marts that are sent whole."""
        self._noted += [self._submit(self._memory.note, candidate) for candidate in marts]

    def wait(self) -> None:
        """Until all is set down."""
        for each in self._noted:
            each.result()

    def _measure(self, candidate: Candidate) -> Future[Fingerprint]:
        if candidate.mart not in self._fingerprints:
            self._fingerprints[candidate.mart] = self._submit(candidates.fingerprint, candidate)
        return self._fingerprints[candidate.mart]

    def _submit(self, work: Any, *arguments: Any) -> Future[Any]:
        future = self._thread.submit(work, self._warehouse, *arguments)
        if not self.is_file:
            wait([future])
        return future
