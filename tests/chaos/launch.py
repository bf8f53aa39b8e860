"""`penstock` in this process, with the faults that the environment asks for: what every process of the suite runs.

CHAOS_FAIL makes the Nth call of a kind fail (tests/chaos/failing.py), CHAOS_WITHOUT takes a guard out
(tests/chaos/guards.py), and failpoints named `dlt...` stand inside dlt (tests/chaos/library_points.py).
"""

import os
import sys


def command(arguments: list[str]) -> None:
    """Run `penstock` with these arguments; ends the process."""
    from foundation import failpoints

    failpoints.arm()
    asked = os.environ.get(failpoints.VARIABLE, "")
    if asked.startswith("ingest.package_full"):  # millions of rows fill one
        from ingestion import packages

        packages.LARGEST_ROWS = 20
    if asked.startswith("dlt"):
        from tests.chaos import library_points

        library_points.install()
    if without := os.environ.get("CHAOS_WITHOUT"):
        from tests.chaos import guards

        if without in guards.REMOVALS:  # others are SQL, and gone from the project
            guards.remove(without)
    if fail := os.environ.get("CHAOS_FAIL"):
        from tests.chaos import failing

        failing.install(fail)
    from operations import cli

    sys.argv = ["penstock", *arguments]
    cli.main()


if __name__ == "__main__":
    command(sys.argv[1:])
