"""Chunks read side by side, given back in their order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
# numpy, DuckDB and the hashes let go of the interpreter's lock, so two chunks keep two cores busy.
SIDE_BY_SIDE = 2


def in_order(jobs: Iterable[Callable[[], Result]], workers: int = SIDE_BY_SIDE) -> Generator[Result]:
    """The result of every job, in the order of the jobs; at most `workers` are under way or wait to be taken."""
    with ThreadPoolExecutor(workers, thread_name_prefix="chunk") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(job))
                if len(waiting) >= workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
