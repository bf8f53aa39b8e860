"""One session that reads both marts over and over until stdin ends, then says what it saw as JSON."""

import json
import sys
import threading
import time
from typing import Any

import psycopg

PAUSE = 0.005  # seconds between two reads; readers are people and reports, not a load test


def read(dsn: str, isolation: str, marts: list[str]) -> dict[str, Any]:
    """Counts by version, read mart by mart in one transaction where it is REPEATABLE READ."""
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    seconds: list[float] = []
    mixed: list[object] = []
    errors: list[str] = []
    union = " union all ".join(f"select version from {mart}" for mart in marts)
    statements = (
        [f"select version, count(*) from ({union}) as t group by version"]
        if isolation == "read committed"
        else [f"select version, count(*) from {mart} group by version" for mart in marts]
    )
    with psycopg.connect(dsn) as connection:
        while not is_over.is_set():
            started = time.monotonic()
            counts: dict[int, int] = {}
            try:
                connection.execute(f"set transaction isolation level {isolation}".encode())
                for statement in statements:
                    for version, count in connection.execute(statement.encode()).fetchall():
                        counts[version] = counts.get(version, 0) + count
                connection.commit()
            except psycopg.Error as error:
                errors.append(str(error).splitlines()[0])
                connection.rollback()
                continue
            seconds.append(time.monotonic() - started)
            if len(counts) != 1:
                mixed.append(sorted(counts.items()))
            time.sleep(PAUSE)
    return {"seconds": seconds, "mixed": mixed[:5], "errors": errors[:5]}


if __name__ == "__main__":
    print(json.dumps(read(sys.argv[1], sys.argv[2], sys.argv[3:])))  # noqa: T201 - for the parent
