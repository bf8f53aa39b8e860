"""A paged HTTP API that takes its time for each answer, as APIs do, into the warehouse."""

from benchmarks.benches import Context
from benchmarks.benches.api import AGAINST as AGAINST
from benchmarks.benches.api import paged_subjects
from benchmarks.measure import Subject

TITLE = "A paged API, 50 ms an answer, into the warehouse"
ORDER = 5
PAGE_SIZE = 500
LATENCY_S = 0.05


def subjects(context: Context) -> list[Subject]:
    """Penstock, a bare httpx loop with the same concurrency, and the limit of the server itself."""
    return paged_subjects(context, PAGE_SIZE, latency=LATENCY_S)
