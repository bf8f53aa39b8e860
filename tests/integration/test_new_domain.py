"""A domain that was not there before, added as the README tells: the example of the README itself, and real files."""

import re
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, Project

REAL = ROOT.parent / "shared" / "data" / "employees"
FIXTURE = ROOT / "tests" / "fixtures" / "real_data"
CHICAGO = """
  chicago__salaries: # two vintages of one register, under different headings
    type: csv
    path: inbox/chicago_employees_*.csv
    columns:
      [id, first_name, name, job_titles, department, full_or_part_time, salary_or_hourly, typical_hours, annual_salary,
       hourly_rate]
  dummyjson__employees:
    type: json
    path: inbox/dummyjson_users.json
"""


def _add_settings(project: Project, sources: str, outputs: str) -> None:
    file = project.root / "penstock.yml"
    before, after = file.read_text().split("\noutputs:\n")
    file.write_text(before + sources + "\noutputs:\n" + outputs + after)


def _source(project: Project, name: str) -> dict[str, Any]:
    return next(source for source in project.summary["sources"] if source["source"] == name)


def test_the_example_of_the_readme_works_as_pasted(project: Project) -> None:
    text = (ROOT / "dbt_project" / "README.md").read_text()
    pasted = re.findall(r"\*\*([\w./]+\.(?:sql|yml|py))\*\*.*?```\w+\n(.*?)```", text, re.DOTALL)
    assert len(pasted) == 12
    settings = yaml.safe_load(dict(pasted)["penstock.yml"])
    inbox = project.root / "inbox"
    inbox.mkdir()
    people = "".join(f'P{number},Parks,"$60,000.00"\n' for number in range(20))
    (inbox / "salaries_2026.csv").write_text(f"Name,Department,Annual Salary\n{people}Bob,Parks,x\n")
    source = yaml.safe_dump({"city__salaries": settings["sources"]["city__salaries"]})
    _add_settings(
        project,
        "\n" + "".join(f"  {line}\n" for line in source.splitlines()),
        "  department_salaries: {key: [department]}\n",
    )
    # Its source alone: the rows reach no model, which no later run may forget.
    for _ in range(2):
        done = project.run("run")
        assert done.returncode == 8, done.stdout + done.stderr
        assert "city__salaries: 21 loaded, but no outcomes model counts them" in done.stderr
    for name, body in pasted:
        if name != "penstock.yml":
            file = (project.root / "dbt_project" / name).resolve()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body)
    done = project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.query("select * from department_salaries")[0][:3] == ("Parks", 20, Decimal("1200000.00"))
    assert (_source(project, "city__salaries")["loaded"], _source(project, "city__salaries")["rejected"]) == (21, 1)
    # An edited file takes the place of what it was.
    (inbox / "salaries_2026.csv").write_text('Name,Department,Annual Salary\nAnn,Parks,"$70,000.00"\n')
    assert project.run("run").returncode == 0
    assert project.query("select * from department_salaries")[0][:3] == ("Parks", 1, Decimal("70000.00"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real payroll files are not on this machine")
def test_real_payrolls_and_people_are_in_the_books_to_the_cent(fresh_project: Project) -> None:
    root = fresh_project.root
    shutil.copytree(FIXTURE, root, dirs_exist_ok=True)
    (root / "inbox").mkdir()
    for name in ("chicago_employees_v1.csv", "chicago_employees_v2.csv", "dummyjson_users.json"):
        shutil.copy(REAL / name, root / "inbox")
    _add_settings(fresh_project, CHICAGO, "  department_salaries:\n    key: [vintage, department]\n")
    _insert_dummyjson(root)
    done = fresh_project.run("run")
    assert done.returncode == 0, done.stdout + done.stderr
    salaries, people = _source(fresh_project, "chicago__salaries"), _source(fresh_project, "dummyjson__employees")
    assert (salaries["read"], salaries["published"], salaries["dead_lettered"]) == (32_658 + 31_059, 63_717, 0)
    assert (people["read"], people["rejected"], people["is_balanced"]) == (208, 208, True)
    assert "schema drift in inbox/chicago_employees_v1.csv: columns gone name" in done.stdout
    assert "schema drift in inbox/chicago_employees_v2.csv: columns gone id, first_name" in done.stdout
    sums = "select vintage, sum(salary_total_usd), sum(count_people) from department_salaries group by 1 order by 1"
    assert fresh_project.query(sums) == [
        ("v1", Decimal("2168129130.48"), 32_658),
        ("v2", Decimal("2275518137.04"), 31_059),
    ]


def _insert_dummyjson(root: Path) -> None:
    tables = root / "dbt_project" / "models" / "staging" / "employees" / "_employees__sources.yml"
    tables.write_text(tables.read_text().rstrip() + "\n" + (FIXTURE / "dummyjson_table.yml").read_text())
    unioned = root / "dbt_project" / "models" / "intermediate" / "employees" / "int_employees__unioned.sql"
    text = unioned.read_text()
    text = text.replace(
        "final as (\n", "dummyjson as (\n    select * from {{ ref('stg_dummyjson__employees') }}\n),\n\nfinal as (\n"
    )
    text = text.replace(
        "    from talent\n)", "    from talent\n    union all\n    select {{ columns }}\n    from dummyjson\n)"
    )
    assert text.count("dummyjson") == 3
    unioned.write_text(text)
