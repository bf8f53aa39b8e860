"""The report site's pages: what they say, that they need no network, and that no value can break out of them."""

import json
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import duckdb
import pytest

from foundation.errors import StorageError
from operations.site.index import render_index
from operations.site.pages import render_site
from operations.site.quality import render_quality_page, tally
from operations.site.writing import count, moment, span

NOW = datetime(2026, 3, 2, 6, 5, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script><img src=\"http://evil.example/x\" onerror='x'>&amp;</td></table>\"' {{ 7 * 7 }}"

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """The text, tags and attributes of a page; raises when a tag is closed that is not open."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.pieces: list[str] = []
        self.feed(self.source)
        assert self.open == []
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.pieces.append(data)


def check(**changes: Any) -> dict[str, Any]:
    return {
        "run_id": "r2",
        "gate": "marts",
        "suite": "employees",
        "expectation": "expect_column_mean_to_be_between",
        "column_name": "salary",
        "severity": "critical",
        "is_success": True,
        "observed_value": "60000",
        "allowed": "20000 to 300000",
        "count_elements": None,
        "count_unexpected": None,
        "samples": "[]",
        "notes": "US dollars a year.",
        "checked_at": NOW,
        **changes,
    }


def run(**changes: Any) -> dict[str, Any]:
    return {
        "run_id": "r2",
        "started_at": NOW - timedelta(minutes=5),
        "finished_at": NOW - timedelta(minutes=4, seconds=19),
        "status": "succeeded",
        "exit_code": 0,
        "release_id": "20",
        "error": None,
        **changes,
    }


BOOK = {
    "run_id": "r2",
    "source": "hr__employees",
    "records_read": 1250,
    "records_loaded": 1240,
    "records_dead_lettered": 10,
    "records_skipped": 0,
    "count_accepted": 1000,
    "count_duplicate": 200,
    "count_rejected": 40,
    "is_balanced": True,
}
MART = {"run_id": "r2", "mart": "employees", "count_candidates": 1000, "count_published": 1000, "is_balanced": True}


def index(tmp_path: Path, **changes: Any) -> Page:
    values: dict[str, Any] = {
        "runs": [run()],
        "books": [BOOK],
        "mart_books": [MART],
        "dead_letter_counts": [
            {
                "source": "hr__employees",
                "reason": "not_json",
                "records": 12,
                "records_last_run": 10,
                "message": "a comma is missing",
                "place": "inbox/a.json line 3",
            }
        ],
        "rejected_counts": [{"model": "rejected_employees", "rule": "salary_positive", "records": 40}],
        "checks": [check()],
        "freshness": [{"source": "hr__employees", "loaded_at": NOW - timedelta(minutes=5)}],
        **changes,
    }
    return Page(render_index(out=tmp_path / "index.html", generated_at=NOW, **values))


def quality(tmp_path: Path, *checks: dict[str, Any]) -> Page:
    return Page(render_quality_page(checks, tmp_path / "quality.html", generated_at=NOW))


def test_no_value_of_a_check_breaks_out_of_the_page(tmp_path: Path) -> None:
    hostile = {name: HOSTILE for name in check() if name not in ("is_success", "checked_at", "samples")}
    samples = json.dumps([{HOSTILE: HOSTILE}])
    page = quality(tmp_path, check(**hostile, is_success=False, samples=samples))
    clean = quality(tmp_path, check(is_success=False, samples='[{"id": "x"}]', count_elements=1, count_unexpected=1))
    assert page.tags == clean.tags
    assert "49" not in page.text
    assert HOSTILE in page.text


def test_no_value_of_the_ledger_breaks_out_of_the_page(tmp_path: Path) -> None:
    hostile = index(
        tmp_path,
        runs=[run(run_id=HOSTILE, error=HOSTILE, release_id=HOSTILE)],
        books=[{**BOOK, "run_id": HOSTILE, "source": HOSTILE}],
        mart_books=[{**MART, "run_id": HOSTILE, "mart": HOSTILE}],
        dead_letter_counts=[
            {
                **dict.fromkeys(("source", "reason", "message", "place"), HOSTILE),
                "records": 1,
                "records_last_run": 1,
            }
        ],
        rejected_counts=[{"model": HOSTILE, "rule": HOSTILE, "records": 1}],
        checks=[check(run_id=HOSTILE)],
    )
    assert hostile.tags == index(tmp_path, runs=[run(error="x")]).tags
    assert {"script", "img"}.isdisjoint(hostile.tags)


def test_the_dbt_docs_are_linked_once_they_are_there(tmp_path: Path) -> None:
    assert "dbt/index.html" not in index(tmp_path).source + quality(tmp_path).source
    (tmp_path / "dbt").mkdir()
    (tmp_path / "dbt" / "index.html").write_text("")
    assert "dbt/index.html" in index(tmp_path).source
    assert "dbt/index.html" in quality(tmp_path).source


def test_pages_refer_to_nothing_outside_of_the_site(tmp_path: Path) -> None:
    for page in (index(tmp_path), quality(tmp_path, check(), check(is_success=False, samples='[{"id": 1}]'))):
        assert "http://" not in page.source
        assert "https://" not in page.source
        assert "url(" not in page.source
        assert {"script", "link", "img", "iframe", "object"}.isdisjoint(page.tags)
        addresses = {value for name, value in page.attributes if name in ("href", "src")}
        assert {address for address in addresses if not address.startswith("#")} == {
            "index.html",
            "quality.html",
        }
        ids = {value for name, value in page.attributes if name == "id"}
        assert {address[1:] for address in addresses if address.startswith("#")} <= ids


def test_tables_say_what_their_columns_and_rows_are(tmp_path: Path) -> None:
    for page in (index(tmp_path), quality(tmp_path, check())):
        assert page.tags.count("th") == sum(name == "scope" for name, _ in page.attributes)
        assert ("lang", "en") in page.attributes


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({}, "The last run succeeded, and readers see what it built"),
        ({"release_id": None}, "The last command succeeded; it published nothing"),
        ({"status": "partial", "exit_code": 4}, "The last run published, but not everything it was asked for was done"),
        (
            {"status": "failed", "exit_code": 6, "release_id": None},
            "The last run failed, and nothing of it was published",
        ),
        ({"status": "failed", "exit_code": 1}, "The last run failed after it had published"),
        (
            {"status": "interrupted", "release_id": None},
            "The last run was interrupted, and nothing of it was published",
        ),
        (
            {"status": "partial", "exit_code": 4, "release_id": None},
            "The last run did a part of what it was asked for, and published nothing",
        ),
        ({"status": "running", "finished_at": None, "exit_code": None, "release_id": None}, "A run is under way"),
    ],
)
def test_the_headline_says_what_became_of_the_last_run(tmp_path: Path, changes: dict[str, Any], headline: str) -> None:
    assert headline in index(tmp_path, runs=[run(**changes)]).text


def test_the_first_page_answers_the_four_questions(tmp_path: Path) -> None:
    text = index(tmp_path).text
    assert "Did it run? ✓ succeeded 2026-03-02 06:00 UTC, took 41 s, exit code 0" in text
    assert "Is it right? ✓ all checks pass 1 passed, 0 warned, 0 failed. See which Its books are ✓ balanced" in text
    assert "How fresh is it? 5 min old newest rows came 2026-03-02 06:00 UTC" in text
    assert "What was rejected? 40 rejected · 10 dead letters in the last run, of 1,250 read" in text


def test_a_stopped_run_says_why_and_what_readers_see_instead(tmp_path: Path) -> None:
    stopped = run(
        run_id="r3", status="failed", exit_code=6, release_id=None, started_at=NOW, error="gate marts is closed"
    )
    text = index(tmp_path, runs=[run(), stopped], checks=[check(run_id="r3", is_success=False)]).text
    assert "Readers see release 20 , of 2026-03-02 06:00 UTC (run r2 )" in text
    assert "gate marts is closed" in text
    assert (
        "exit code 6: A critical expectation failed, or more records than the threshold allows, "
        "so nothing is published." in text
    )
    assert "✕ 1 critical check failed" in text


def test_a_run_without_books_shows_what_it_read_by_source(tmp_path: Path) -> None:
    counts = {"read": 1300, "loaded": 1250, "dead_lettered": 50, "skipped": 0}
    summary = {"errors": ["x__b: gone", "x__c: gone"], "sources": [{"source": "x__a", "errors": [], **counts}]}
    summary["sources"].append({"source": "x__b", "errors": ["x__b: gone"], **dict.fromkeys(counts, 0)})
    ingested = run(
        run_id="r3", started_at=NOW, status="partial", release_id=None, error="a; b", summary=json.dumps(summary)
    )
    page = index(tmp_path, runs=[run(), ingested])
    assert "1,300 1,250 50 – – – r3" in page.text  # in the table of runs
    assert "x__a – 1,300 1,250 50 0 x__b ✕ failed 0 0 0 0" in page.text
    assert "50 dead letters in the last run, of 1,300 read" in page.text
    # A list of what failed, an item each.
    assert "x__b: gone x__c: gone" in page.text
    assert page.tags.count("li") == 2
    assert "Read by source" not in index(tmp_path).text


def test_a_great_many_failures_are_not_all_listed(tmp_path: Path) -> None:
    summary = json.dumps({"errors": [f"x__{number}: gone" for number in range(60)]})
    page = index(tmp_path, runs=[run(status="failed", release_id=None, summary=summary)])
    assert page.tags.count("li") == 51
    assert "and 10 more, in the logs" in page.text


def test_checks_of_an_earlier_run_are_said_to_be(tmp_path: Path) -> None:
    assert "in run r1 : the last run was not judged" in index(tmp_path, checks=[check(run_id="r1")]).text


def test_an_imbalance_is_seen(tmp_path: Path) -> None:
    assert "✕ off" in index(tmp_path, books=[{**BOOK, "is_balanced": False}]).text


@pytest.mark.parametrize(
    ("checks", "headline"),
    [
        ([check()], "The gates are open: all checks pass (1)"),
        ([check(), check(is_success=False, severity="warning")], "The gates are open, with 1 warning"),
        ([check(is_success=False)] * 2, "2 critical checks failed: nothing of this was published"),
        ([check(is_success=False, severity="unheard of")], "1 critical check failed"),
    ],
)
def test_the_quality_page_gives_the_verdict(tmp_path: Path, checks: list[dict[str, Any]], headline: str) -> None:
    assert headline in quality(tmp_path, *checks).text


def test_each_suite_is_counted_by_itself(tmp_path: Path) -> None:
    text = quality(
        tmp_path,
        check(),
        check(suite="outcomes", is_success=False),
        check(is_success=False, severity="warning"),
        check(gate="raw", suite="hr"),
    ).text
    assert "marts.employees 1 passed, 1 warned, 0 failed" in text
    assert "marts.outcomes 0 passed, 0 warned, 1 failed" in text
    assert "Gate marts ✕ closed" in text
    assert "Gate raw ✓ open" in text


def test_a_failed_check_shows_observed_allowed_reason_and_rows(tmp_path: Path) -> None:
    failed = check(
        is_success=False, count_unexpected=24, count_elements=1600, samples=[{"id": "7", "salary": None}, {"id": "8"}]
    )
    text = quality(tmp_path, failed).text
    assert (
        "✕ fail column mean to be between salary 60000 (24 of 1,600 rows) 20000 to 300000 stops the run "
        "US dollars a year. 2 sample rows id salary 7 null 8 null"
    ) in text


@pytest.mark.parametrize("samples", [None, "", "not json", "3", '{"a": 1}', "[1, 2]"])
def test_samples_that_cannot_be_read_are_left_out(tmp_path: Path, samples: object) -> None:
    assert "sample row" not in quality(tmp_path, check(samples=samples)).text


def test_a_fresh_clone_has_pages_too(tmp_path: Path) -> None:
    pages = render_site(tmp_path / "none.duckdb", tmp_path / "site", generated_at=NOW)
    assert [page.name for page in pages] == ["index.html", "quality.html"]
    assert "Nothing has run yet" in Page(pages[0]).text
    assert "Nothing has been judged yet" in Page(pages[1]).text
    assert not (tmp_path / "none.duckdb").exists()


def test_the_site_reads_the_ledger_the_rejected_and_the_dead_letters(tmp_path: Path) -> None:
    warehouse = tmp_path / "w.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(f"""
            set TimeZone = 'UTC';
            create schema ops; create schema raw; create schema marts;
            create table ops.runs as
                select 'r1' as run_id, timestamptz '{NOW}' as started_at, timestamptz '{NOW}' as finished_at,
                    'partial' as status, 4 as exit_code, '1' as release_id, null as error;
            create table ops.gate_results as
                select * from (values
                    ('r0', 'raw', 'hr', 'expect_x', 'old', 'critical', false, '[]', timestamptz '{NOW - timedelta(1)}'),
                    ('r1', 'raw', 'hr', 'expect_x', 'first', 'critical', true, '[]', timestamptz '{NOW}'),
                    ('r1', 'raw', 'hr', 'expect_x', 'second', 'critical', true, '[]', timestamptz '{NOW}')
                ) as t(run_id, gate, suite, expectation, column_name, severity, is_success, samples, checked_at);
            create table raw.loads as select 'hr' as source, 3 as records_loaded, timestamptz '{NOW}' as loaded_at;
            create table raw.dead_letters as
                select 'id' || place as dead_letter_id, 'r1' as run_id, 'hr' as source, 'not_json' as reason,
                    timestamptz '{NOW}' as occurred_at,
                    'in/a.json' as location, 9 - place as line, null::bigint as page, null::bigint as byte_offset,
                    'a comma is missing' as message, 'Ada, hush' as record
                from range(7) as places(place);
            create table marts.rejected_people as select ['age_whole', 'email_form'] as failed_rules from range(3);
            create table marts.rejected_without_rules as select 1 as id;
        """)
    first, second = render_site(warehouse, tmp_path / "site", generated_at=NOW)
    assert "not_json hr 7 7 in/a.json line 3 : a comma is missing" in Page(first).text
    assert "penstock deadletters list" in Page(first).text
    assert "hush" not in Page(first).text
    assert "age_whole rejected_people 3" in Page(first).text
    assert "in run" not in Page(first).text
    text = Page(second).text
    assert "old" not in text
    assert text.index("first") < text.index("second")


def test_a_dead_letter_counts_once_on_the_page_and_every_reason_in_the_total(tmp_path: Path) -> None:
    warehouse = tmp_path / "w.duckdb"
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(f"""
            create schema ops; create schema raw;
            create table ops.runs as
                select 'r1' as run_id, timestamptz '{NOW}' as started_at, timestamptz '{NOW}' as finished_at,
                    'partial' as status, 4 as exit_code, null as release_id, null as error;
            -- as a crash leaves them, or a file that is read again: three letters of one reason, each there twice
            create table raw.dead_letters as
                select 'id' || place as dead_letter_id, 'r1' as run_id, 'hr' as source,
                    case when place < 3 then 'not_json' else 'http_' || place end as reason,
                    timestamptz '{NOW}' as occurred_at, 'in/a.json' as location, place as line,
                    null::bigint as page, null::bigint as byte_offset, 'a comma is missing' as message
                from range(150) as places(place), range(2);
        """)
    text = Page(render_site(warehouse, tmp_path / "site", generated_at=NOW)[0]).text
    assert "150 in all" in text
    assert "not_json hr 3 3 in/a.json line 0 " in text


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "quality.html"
    render_quality_page([], out, generated_at=NOW)
    before = out.read_text()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        render_quality_page([check()], out, generated_at=NOW)
    assert out.read_text() == before
    assert list(tmp_path.iterdir()) == [out]
    assert out.stat().st_mode & 0o777 == 0o644


def test_words_for_numbers_and_times() -> None:
    assert [count(1234567), count(0), count(None)] == ["1,234,567", "0", "–"]
    assert [moment("2026-03-02T08:00:00+02:00"), moment("soon"), moment(None)] == ["2026-03-02 06:00 UTC", "–", "–"]
    seconds = (0.25, 9.96, 41, 60, 189, 3600, 90061)
    assert [span(timedelta(seconds=value)) for value in seconds] == [
        "0.2 s",
        "10.0 s",
        "41 s",
        "1 min",
        "3 min 9 s",
        "1 h",
        "1 d 1 h",
    ]
    assert tally([]).verdict == "none"
