"""Entries put into YAML files that people wrote: what stood there stays as it was, letter for letter."""

import pytest
import yaml

from foundation.errors import ConfigError
from operations.scaffold.edits import add_entry, add_table, scalar

ENTRY = {"type": "csv", "path": "inbox/#1: a.csv", "columns": ["id", "no"]}
ADDED = '  shop__orders:\n    type: csv\n    path: "inbox/#1: a.csv"\n    columns: [id, "no"]\n'
TABLE = ["- name: shop__orders", "  description: Orders."]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("sources:\n", f"sources:\n{ADDED}"),
        ("sources: {} # none yet\noutputs: {}\n", f"sources: # none yet\n{ADDED}outputs: {{}}\n"),
        ("sources:\n# how it is read\noutputs:\n", f"sources:\n{ADDED}# how it is read\noutputs:\n"),
        ("batch_size: 5", f"batch_size: 5\nsources:\n{ADDED}"),
        ("", f"sources:\n{ADDED}"),
        ("sources:\n  a__b: {type: json, path: x}", f"sources:\n  a__b: {{type: json, path: x}}\n{ADDED}"),
        (
            "sources: # all\n  a__b: # one\n    type: json\n    path: x # it\n    # told of it\n\n# below\noutputs:\n",
            "sources: # all\n  a__b: # one\n    type: json\n    path: x # it\n    # told of it\n"
            f"{ADDED}\n# below\noutputs:\n",
        ),
    ],
)
def test_an_entry_comes_last_in_its_section_and_all_else_stays(before: str, after: str) -> None:
    assert add_entry(before, "sources", "shop__orders", ENTRY, "penstock.yml") == after
    assert yaml.safe_load(after)["sources"]["shop__orders"] == ENTRY


def test_an_entry_is_as_deep_as_its_sisters() -> None:
    changed = add_entry("sources:\n    a__b:\n        type: json\n        path: x\n", "sources", "c__d", ENTRY, "")
    assert "\n    c__d:\n      type: csv\n" in changed


def test_a_section_on_one_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="written on one line"):
        add_entry("sources: {a__b: {type: json, path: x}}\n", "sources", "c__d", ENTRY, "penstock.yml")


@pytest.mark.parametrize("indent", ["", "  "])
def test_a_table_comes_last_among_those_of_raw(indent: str) -> None:
    lines = ["sources:", f"{indent}- name: raw", f"{indent}  tables:", f"{indent}    - name: a__b # one"]
    other = [f"{indent}- name: other", f"{indent}  tables:", f"{indent}    - name: x"]
    text = "\n".join([*lines, "# below", *other]) + "\n"
    added = [f"{indent}    - name: shop__orders", f"{indent}      description: Orders."]
    assert add_table(text, TABLE, "x.yml") == "\n".join([*lines, "", *added, "# below", *other]) + "\n"


def test_a_file_without_the_tables_of_raw_is_refused() -> None:
    with pytest.raises(ConfigError, match="not found"):
        add_table("sources: []\n", TABLE, "x.yml")


@pytest.mark.parametrize(
    "text",
    ["no", "null", "1", "1e3", "2024-01-05", "a: b", "# a", "{{ 1 }}", "*x", "'", '"', "a\nb", "", " ", "é", "[", "-"],
)
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(f"- {scalar(text)}\n") == [text]
    assert "\n" not in scalar(text)
