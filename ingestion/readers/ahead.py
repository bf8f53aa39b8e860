"""Chunks read side by side, given back in their order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
# numpy, DuckDB and the hashes let go of the interpreter's lock, so two chunks keep two cores busy.
SIDE_BY_SIDE = 2


def in_order(jobs: Iterable[Callable[[], Result]], workers: int = SIDE_BY_SIDE) -> Generator[Result]:
    """The result of every job, in the order of the jobs; at most `workers` are under way or wait to be taken.

    Where the jobs end in an error, what was begun is handed out before it.
    """
    iterator = iter(jobs)
    failure: BaseException | None = None
    with ThreadPoolExecutor(workers, thread_name_prefix="chunk") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            while failure is None:
                try:
                    waiting.append(pool.submit(next(iterator)))
                except StopIteration:
                    break
                except Exception as error:  # noqa: BLE001 - raised below
                    failure = error
                if len(waiting) >= workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    if failure is not None:
        raise failure
