"""Thresholds: what warns, what stops, what is too little to stop, and which sources are judged by themselves."""

from pathlib import Path

import pytest

from expectations.history import History
from foundation.errors import ConfigError, GateError
from foundation.settings import Settings, load_settings
from operations.thresholds import ALL, THE_OTHERS, Share, judge_shares, stop_if_exceeded, warnings

NOISY = "sources:\n  lab__noisy:\n    type: csv\n    path: x\n    {own}\n  hr__people: {{ type: csv, path: y }}\n"


def settings_of(tmp_path: Path, text: str, **environment: str) -> Settings:
    (tmp_path / "penstock.yml").write_text(text)
    return load_settings(tmp_path, environment)


@pytest.mark.parametrize(
    ("failed", "judged", "verdict"),
    [
        (0, 0, "pass"),
        (0, 1000, "pass"),
        (50, 1000, "pass"),  # what is allowed is allowed
        (51, 1000, "warn"),
        (100, 1000, "warn"),
        (101, 1000, "stop"),
        (1, 2, "warn"),
        (19, 19, "warn"),
        (3, 20, "stop"),
    ],
)
def test_a_share_warns_and_stops_beyond_its_levels(failed: int, judged: int, verdict: str) -> None:
    assert Share(ALL, "failure_threshold_percent 10", failed, judged, 5, 10, 20).verdict == verdict


def test_all_sources_are_judged_together(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, NOISY.format(own=""))
    (share,) = judge_shares(settings, {"lab__noisy": (300, 1000), "hr__people": (0, 2000)})
    assert (share.name, share.percent, share.warning_percent, share.stop_percent) == (ALL, 10, 5, 10)
    assert share.verdict == "warn"
    assert "10.0% of the records of all sources since the last release failed (300 of 3,000)" in warnings([share])[0]
    stop_if_exceeded([share])


def test_a_source_with_a_threshold_of_its_own_is_left_out_of_the_others(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, NOISY.format(own="failure_threshold_percent: 40"))
    noisy, others = judge_shares(settings, {"lab__noisy": (300, 1000), "hr__people": (30, 2000)})
    assert (noisy.name, noisy.percent, noisy.warning_percent, noisy.verdict) == ("lab__noisy", 30, 20, "warn")
    assert (others.name, others.percent, others.verdict) == (THE_OTHERS, 1.5, "pass")
    noisy, others = judge_shares(settings, {"lab__noisy": (500, 1000), "hr__people": (900, 2000)})
    with pytest.raises(GateError) as caught:
        stop_if_exceeded([noisy, others])
    line = caught.value.one_line()
    assert "50.0% of the records of lab__noisy" in line
    assert "45.0% of the records of the other sources" in line
    assert "(sources.lab__noisy.failure_threshold_percent 40, failure_threshold_percent 10)" in line


def test_a_stricter_source_stops_what_the_whole_would_let_through(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, NOISY.format(own="failure_threshold_percent: 0"))
    shares = judge_shares(settings, {"lab__noisy": (1, 1000), "hr__people": (0, 2000)})
    with pytest.raises(GateError):
        stop_if_exceeded(shares)


def test_any_number_stops_where_that_is_asked_for(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, NOISY.format(own=""), FAILURE_MIN_RECORDS="1")
    with pytest.raises(GateError):
        stop_if_exceeded(judge_shares(settings, {"hr__people": (1, 2)}))


def test_few_records_that_failed_warn_and_say_why_they_stop_nothing(tmp_path: Path) -> None:
    shares = judge_shares(settings_of(tmp_path, NOISY.format(own="")), {"hr__people": (1, 2)})
    stop_if_exceeded(shares)
    (line,) = warnings(shares)
    assert "50.0% of the records of all sources since the last release failed (1 of 2); only 2 records" in line


def test_a_share_is_a_check_of_its_own_gate() -> None:
    check = Share(ALL, "failure_threshold_percent 10", 6, 100, 5, 10, 20).as_check()
    assert (check["gate"], check["severity"], check["is_success"]) == ("thresholds", "warning", False)
    assert (check["observed_value"], check["allowed"]) == ("6", "at most 5")
    check = Share(ALL, "failure_threshold_percent 10", 60, 100, 5, 10, 20).as_check()
    assert (check["severity"], check["is_success"], check["allowed"]) == ("critical", False, "at most 10")


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        (
            "failure_warning_percent: 11\n",
            {},
            r"failure_warning_percent is 11, beyond failure_threshold_percent, which is 10 here "
            r"\(.*penstock\.yml, line 1\): it is at most 10$",
        ),
        (
            "",
            {"FAILURE_WARNING_PERCENT": "30", "FAILURE_THRESHOLD_PERCENT": "20"},
            r"FAILURE_WARNING_PERCENT is 30, beyond .* 20 here \(environment\): it is at most 20$",
        ),
        (
            NOISY.format(own="failure_warning_percent: 15"),
            {},
            r"sources\.lab__noisy\.failure_warning_percent is 15, beyond .* 10 here \(.*line 5\)",
        ),
        ("failure_min_records: 0\n", {}, r"failure_min_records is 0 \(.*line 1\): it is at least 1$"),
        (
            NOISY.format(own="failure_threshold_percent: 101"),
            {},
            r"sources\.lab__noisy\.failure_threshold_percent is 101 \(.*line 5\): it is at most 100$",
        ),
        (
            NOISY.format(own="failure_threshold_percent: some"),
            {},
            r"sources\.lab__noisy\.failure_threshold_percent is 'some' \(.*line 5\): it is a number$",
        ),
        ("failure_treshold_percent: 5\n", {}, "did you mean failure_threshold_percent"),
    ],
)
def test_a_mistake_in_a_threshold_is_told(tmp_path: Path, text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(tmp_path, text, **environment)


def test_a_suite_leaves_out_what_is_judged_apart() -> None:
    history = History(judged_at=None, failure_min_records=20, judged_apart=["lab__noisy", "it's"])  # type: ignore[arg-type]
    assert history.judged_together("source") == "source not in ('lab__noisy', 'it''s')"
    assert history.stopping_percent("a", "b") == "case when b >= 20 then 100.0 * a / b else 0 end"
