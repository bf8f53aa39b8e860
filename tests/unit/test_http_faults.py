"""Whatever a server does wrong, at the first, a middle and the last page: all records or a clear error."""

import re
from collections.abc import Iterator

import pytest

from foundation.errors import SourceError
from foundation.sources import ApiSource
from ingestion.parcels import Batch, Parcel
from ingestion.readers.apis.client import ApiClients
from ingestion.readers.apis.reader import ApiReader
from tests.api_bench import records_of
from tests.fault_server import HARMLESS, LAST_PAGE, LASTING, PASSING, FaultServer, fault_server

ALL = [f'{{"id": {number}, "name": "José"}}' for number in range(9)]
PAGES = pytest.mark.parametrize("page", [1, 3, LAST_PAGE])


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


def read(server: FaultServer, batch: Batch, parcels: list[Parcel]) -> None:
    """Read all pages into `parcels`, as far as they come."""
    source = ApiSource.model_validate(
        {
            "type": "api",
            "url": f"http://127.0.0.1:{server.port}/people",
            "auth": {"type": "bearer", "token": "s3cret"},
            "records_path": "data",
            "pagination": {"type": "page", "total_path": "total"},
            "largest_response_mb": 1,
            "retry": {"first_wait_seconds": 0.01, "longest_wait_seconds": 0.05, "timeout_seconds": 0.3},
        }
    )
    with ApiClients({}, concurrency=3, max_retries=2, batch_size=2) as clients:
        for parcel in ApiReader("talent__people", source, clients, batch).parcels():
            parcels.append(parcel)


@PAGES
@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_tried_again_and_nothing_is_lost(
    server: FaultServer, batch: Batch, name: str, page: int
) -> None:
    server.faults, server.times = {page: PASSING[name]}, 1
    parcels: list[Parcel] = []
    read(server, batch, parcels)
    assert records_of(parcels) == ALL
    assert server.asked[page] == 2


@PAGES
@pytest.mark.parametrize("name", [*PASSING, *LASTING])
def test_what_stays_is_a_clear_error_after_the_pages_before_it(
    server: FaultServer, batch: Batch, name: str, page: int
) -> None:
    server.faults = {page: {**PASSING, **LASTING}[name]}
    parcels: list[Parcel] = []
    with pytest.raises(SourceError) as caught:
        read(server, batch, parcels)
    assert re.match(r"talent__people: .+ \(http://127.0.0.1:\d+/people.*\): .+", caught.value.one_line())
    assert "s3cret" not in caught.value.one_line()
    # No page that is wrong, and none after it.
    told_late = name in ("another page", "an empty page", "a total that shrinks") or (name == "no total" and page > 1)
    if not told_late:
        assert records_of(parcels) == ALL[: 2 * (page - 1)]
    assert all(load.cursor is None for parcel in parcels for load in parcel.loads)


@PAGES
@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_odd_but_whole_is_read(server: FaultServer, batch: Batch, name: str, page: int) -> None:
    server.faults = {page: HARMLESS[name]}
    parcels: list[Parcel] = []
    read(server, batch, parcels)
    assert records_of(parcels) == ALL
