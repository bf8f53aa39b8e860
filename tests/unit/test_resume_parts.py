"""What is left to read of a run that goes on, where sources take ids from others or have partitions."""

from pathlib import Path

import pytest

from foundation.settings import load_settings
from ingestion.parts import Part
from operations.commit import models_hash
from operations.resume import Past, fingerprint, left_to_read

SETTINGS = """
sources:
  lab__datasets: { type: api, url: "http://h/datasets" }
  lab__metadata:
    type: api
    url: http://h/datasets/{id}
    for_each: { source: lab__datasets, field: slug }
  lab__files:
    type: api
    url: http://h/files/{id}
    for_each: { source: lab__metadata, field: file }
  shop__products:
    type: api
    url: http://h/{value}
    partitions: { by: values, values: [toys, books] }
  hr__people: { type: csv, path: people.csv }
"""
LAB = {("lab__datasets", ""), ("lab__metadata", ""), ("lab__files", "")}
SHOP = {("shop__products", "toys"), ("shop__products", "books")}
EVERY = LAB | SHOP | {("hr__people", "")}


@pytest.mark.parametrize(
    ("unread", "left"),
    [
        (set(), set()),
        ({("hr__people", "")}, {("hr__people", "")}),
        ({("shop__products", "books")}, {("shop__products", "books")}),
        # It gives the ids, and its own may be others than before.
        ({("lab__files", "")}, LAB),
        ({("lab__datasets", "")}, LAB),
        ({("lab__metadata", ""), ("shop__products", "toys")}, LAB | {("shop__products", "toys")}),
        (EVERY, EVERY),
    ],
)
def test_what_was_read_to_its_end_is_left_out_unless_another_needs_it(
    tmp_path: Path, unread: set[tuple[str, str]], left: set[tuple[str, str]]
) -> None:
    (tmp_path / "penstock.yml").write_text(SETTINGS)
    settings = load_settings(tmp_path, {})
    parts = [Part(source, name, settings.sources[source]) for source, name in sorted(EVERY)]
    found = left_to_read(parts, Past(1, frozenset(EVERY - unread)), settings, "run-1")
    assert {(part.source, part.name) for part in found} == left


def test_a_fingerprint_knows_models_switches_and_settings_apart(tmp_path: Path) -> None:
    def now(text: str = "", model: str = "select 1") -> tuple[str, str]:
        (tmp_path / "penstock.yml").write_text(text)
        (tmp_path / "dbt_project").mkdir(exist_ok=True)
        (tmp_path / "dbt_project" / "one.sql").write_text(model)
        found = fingerprint(tmp_path, load_settings(tmp_path, {}))
        assert found.model_files == models_hash(tmp_path), "a rebuild knows the models by the same hash"
        return found.settings, found.models

    settings, models = now()
    assert now() == (settings, models)
    assert now(model="select 2")[0] == settings
    assert now(model="select 2")[1] != models
    assert now("failure_threshold_percent: 20")[0] != settings
    assert now("failure_threshold_percent: 20")[1] == models
    assert now("switches: { enrichment: false }")[1] != models
