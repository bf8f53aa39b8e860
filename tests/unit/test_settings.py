"""Settings: the environment over penstock.yml over defaults; a mistake names the key, the value and what is allowed."""

import json
from pathlib import Path

import pytest

from foundation.errors import ConfigError
from foundation.settings import Settings, expand, load_settings

ROOT = Path(__file__).parent.parent.parent


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "penstock.yml").write_text(text)
    return tmp_path


API = "sources:\n  a__b:\n    type: api\n    url: {url}\n    {more}\n"
FILES = """sources:
  a__b:
    type: csv
    path: inbox/**/*.csv
    partitions: {{ by: files, priority: {{ {file}: 1 }} }}
"""


def of_api(more: str = "http2: true", url: str = "http://h/x") -> str:
    return API.format(url=url, more=more)


def of_csv(more: str) -> str:
    return f"sources:\n  a__b:\n    type: csv\n    path: x\n    {more}\n"


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    root = write(tmp_path, "batch_size: 500\nmax_retries: 7\n")
    settings = load_settings(root, {"BATCH_SIZE": "20"})
    assert (settings.batch_size, settings.max_retries, settings.concurrency) == (20, 7, 4)


def test_paths_are_relative_to_the_root(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "work_dir: state\n"), {})
    assert settings.warehouse == tmp_path / "state" / "warehouse.duckdb"
    assert settings.temporary == tmp_path / "state" / "tmp"


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("batch_siez: 5\n", {}, r"unknown key batch_siez \(.*penstock\.yml, line 1\): did you mean batch_size\?"),
        ("batch_size: 0\n", {}, r"batch_size is 0 \(.*line 1\): it is at least 1$"),
        ("", {"BATCH_SIZE": "many"}, r"BATCH_SIZE is 'many' \(environment\): it is a whole number$"),
        ("", {"FAILURE_THRESHOLD_PERCENT": "101"}, "FAILURE_THRESHOLD_PERCENT is '101'"),
        ("sources:\n  hr__x:\n    type: csv\n    pth: a\n", {}, r"sources\.hr__x\.pth .*line 4\): did you mean path\?"),
        ("sources:\n  hr__x:\n    type: csv\n", {}, r"sources\.hr__x\.path is missing \(.*line 2\)"),
        (
            "sources:\n  hr__x:\n    type: xml\n    path: a\n",
            {},
            r"sources\.hr__x\.type is not known .*csv, json, parquet, api",
        ),
        (
            "sources:\n  hr__x:\n    type: csv\n    path: a\n    columns: [First Name]\n",
            {},
            r"columns\.0 is 'First Name'",
        ),
        ("sources:\n  hr:\n    type: csv\n    path: a\n", {}, "<system>__<things>"),
        ("outputs:\n  employees:\n    key: [id]\n    keys: [id]\n", {}, "did you mean key"),
        ("outputs:\n  'Robert; drop':\n    key: [id]\n", {}, "snake_case"),
        (
            "sources:\n  a__b:\n    type: api\n    url: x\n    auth: { type: bearer, tokn: x }\n",
            {},
            r"unknown key sources\.a__b\.auth\.tokn .*line 5\): did you mean token\?",
        ),
        (
            "sources:\n  a__b:\n    type: api\n    url: x\n    auth: { type: bear }\n",
            {},
            r"sources\.a__b\.auth\.type is not known .*bearer, api_key, basic, oauth2",
        ),
        (
            "sources:\n  a__b:\n    type: api\n    url: x\n    partitions: { by: range, strt: 1 }\n",
            {},
            r"unknown key sources\.a__b\.partitions\.strt .*did you mean start\?",
        ),
        (
            "sources:\n  hr__x:\n    type: csv\n    path: a\n    allowed_roots: [b]\n",
            {},
            r"sources\.hr__x\.allowed_roots \(.*line 5\): allowed_roots stands at the top of penstock\.yml, not here",
        ),
        (of_csv("header: maybe"), {}, r"header is 'maybe' \(.*line 5\): it is true or false$"),
        (of_csv("columns: id"), {}, r"columns is 'id' .*: it is a list, as in \[a, b\]$"),
        (of_csv("escape: é"), {}, r"escape is 'é' .*: it is one ASCII character$"),
        (of_csv("quote: ab"), {}, r"quote is 'ab' .*: its length is at most 1$"),
        (of_csv("schema_drift: halt"), {}, r"it is one of 'evolve', 'freeze', 'dead_letter'$"),
        (of_csv("partitions: { by: values, values: [1] }"), {}, r"values\.0 is 1 .*: it is text; a number or a word"),
        (
            of_csv("partitions: { by: dates, start: soon }"),
            {},
            r"start is 'soon' .*: it is a whole number, or a day as",
        ),
        (of_api("rate_limit: 5"), {}, r"rate_limit is 5 .*: it holds `key: value` pairs$"),
        (of_api("http2:"), {}, r"http2 is empty .*: it is true or false$"),
        ("outputs:\n  people:\n    key: id\n", {}, r"people\.key is 'id' .*line 3\): it is a list"),
        ("outputs:\n  people:\n    key: []\n", {}, r"people\.key is wrong .*: it lists at least 1$"),
        ("batch_size: 1\nbatch_size: 2\n", {}, r"batch_size is there twice \(.*line 2\)"),
        ("a: [1\n", {}, r"not valid YAML: .* \(.*line 2"),
        ("- 1\n", {}, "`key: value` pairs"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(write(tmp_path, text), environment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (of_api(url="ftp://h/x"), r"a__b\.url is no address of the web \(.*line 4\): it begins with http:// or"),
        (of_api(url="h/x"), r"a__b\.url is no address of the web"),
        (
            of_api("auth: { type: oauth2, token_url: h/t, client_id: i, client_secret: s }"),
            r"a__b\.auth\.token_url is no address .*line 5",
        ),
        (of_api(url="http://h/{id}"), r"a__b\.url holds \{id\}, which only for_each fills \(.*line 4\)"),
        (of_api("pagination: { type: cursor }"), r"a__b\.pagination of type cursor needs next_path \(.*line 5\)"),
        (of_api("cursor_path: at"), r"a__b\.cursor_path does nothing without cursor_param \(.*line 5\)"),
        (of_api("cursor_param: at"), r"a__b\.cursor_param does nothing without cursor_path \(.*line 5\)"),
        (of_api("cursor_lag: 5"), r"a__b\.cursor_lag does nothing without .*line 5"),
        (of_api("for_each: { source: a__c, field: id }", "http://h/{id}"), r"is 'a__c', which is no API .*line 5"),
        (of_api("for_each: { source: a__b, field: id }", "http://h/{id}"), r"waits for a__b itself \(.*line 5\)"),
        (of_api("for_each: { source: a__b, field: id }"), r"a__b\.for_each asks once for each id \(.*line 5\)"),
        (of_api("partitions: { by: files }"), r"a__b\.partitions\.by is 'files', but an API has no files .*line 5"),
        (of_api("partitions: { by: files, values: [a] }"), "an API has no files"),
        (
            of_api("partitions: { by: values, values: [a] }"),
            r"nothing that tells .*line 5\): put \{value\} into url or",
        ),
        (of_api("partitions: { by: hash, buckets: 2 }", "http://h/{buckets}"), r"put \{bucket\} into url or params"),
        (
            of_api("partitions: { by: values, values: [a, b], priority: { c: 1 } }", "http://h/{value}"),
            r"names 'c', which is no part of it \(.*line 5\): parts are a, b$",
        ),
        (
            of_api("partitions: { by: hash, buckets: 6, priority: { c: 1 } }", "http://h/{bucket}"),
            r"parts are 0 of 6, 1 of 6, 2 of 6, 3 of 6, 4 of 6\.\.\.$",
        ),
        (FILES.format(file="a.csv"), r"names 'a\.csv', which path does not \(.*line 5\): name files as in inbox/"),
    ],
)
def test_keys_that_do_not_fit_together_are_told_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(write(tmp_path, text), {})


@pytest.mark.parametrize(
    "text",
    [
        of_api(url="HTTPS://h/x"),
        of_api(url="${BASE}/x"),
        of_api("partitions: { by: range, start: 0, stop: 9, step: 3 }", "http://h/{stop}"),
        of_api("partitions: { by: values, values: [a], priority: { a: 1 } }\n    params: { p: '{value}' }"),
        FILES.format(file="inbox/a.csv"),
        FILES.format(file="inbox/b/c/a.csv"),
    ],
)
def test_keys_that_fit_together_are_taken(tmp_path: Path, text: str) -> None:
    load_settings(write(tmp_path, text), {})


def test_a_missing_file_says_where_to_stand(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no penstock\.yml"):
        load_settings(tmp_path, {})


def test_a_secret_is_in_no_text_of_the_settings(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, ""), {"DATABASE_URL": "postgresql://u:hush@h/d", "API_KEY": "quiet"})
    assert "hush" not in repr(settings) + settings.model_dump_json()
    assert "quiet" not in repr(settings) + settings.model_dump_json()
    assert settings.secrets() == ["postgresql://u:hush@h/d", "quiet"]


@pytest.mark.parametrize(
    "text",
    [
        "database_url: [hush]\n",
        "api_key: { hush: 1 }\n",
        of_api("auth: hush"),
        of_api("auth: { type: bearer, token: [hush] }"),
        of_api("params: hush"),
        of_api("headers: hush"),
        of_api(url="[hush]"),
        of_api("headers: { X-Key: [hush] }"),
    ],
)
def test_a_wrong_secret_is_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r" is wrong \(") as caught:
        load_settings(write(tmp_path, text), {})
    assert "hush" not in caught.value.one_line()


def test_names_are_filled_in_or_missed() -> None:
    assert expand("${A}/x?k=${B}", {"A": "http://h", "B": "1"}, "url") == "http://h/x?k=1"
    with pytest.raises(ConfigError, match=r"C is not set \(sources\.a__b\.url in penstock\.yml\)") as caught:
        expand("s3cret ${C}", {}, "sources.a__b.url")
    assert "s3cret" not in caught.value.one_line()


def test_the_committed_schema_is_the_one_of_the_settings() -> None:
    committed = json.loads((ROOT / "penstock.schema.json").read_text())
    assert committed == Settings.model_json_schema(), "penstock schema > penstock.schema.json"
