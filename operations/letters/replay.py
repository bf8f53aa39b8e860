"""`penstock replay`: letters through the whole pipeline once more, corrected or as they were, as an ordinary run."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from foundation.errors import ConfigError, PenstockError
from foundation.settings import CONFIG_FILE, Settings
from foundation.sources import ApiSource, CsvSource
from foundation.warehouse import open_warehouse, quote_literal
from ingestion.parcels import LONGEST_RECORD_KEPT
from ingestion.parts import Part, parts_of
from operations.letters.corrections import read_corrections
from operations.letters.ledger import JUDGE, REPLAYED, RESOLVED, keys_of, update
from operations.letters.selection import Selection

MOST_TOLD = 3
# A whole file, or the rest of one: no record that could be read on its own.
_WHOLE = ("unreadable_file", "broken_document")


class NothingToReplay(PenstockError):  # noqa: N818 - no failure: there is nothing to do
    """No letter is asked for that could be replayed."""

    exit_code = 0


@dataclass(frozen=True)
class Replay:
    """What is to be replayed: a file of corrections, or the originals of the letters that a selection names."""

    selection: Selection
    file: Path | None = None


@dataclass
class Plan:
    """What a replay reads, and what is told about it."""

    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_replay(root: Path, settings: Settings, replay: Replay, run_id: str, today: date) -> Plan:
    """What a run is to read for this replay. The caller keeps other runs away.

    Raises ConfigError for a file that cannot be taken as it is, of which nothing is replayed then; NothingToReplay.
    """
    folder = settings.temporary / "replay"
    shutil.rmtree(folder, ignore_errors=True)
    corrections = None if replay.file is None else read_corrections(replay.file, folder)
    if not settings.warehouse.exists():
        raise NothingToReplay("there are no dead letters: nothing was read yet")
    folder.mkdir(parents=True, exist_ok=True)
    with open_warehouse(settings.warehouse) as connection:
        update(connection, keys_of(settings))
        planner = _Planner(root, settings, connection, folder, run_id, today)
        if corrections is not None:
            assert replay.file is not None
            return planner.corrected(corrections, replay.file)
        return planner.stored(replay.selection)


@dataclass
class _Planner:
    root: Path
    settings: Settings
    connection: duckdb.DuckDBPyConnection
    folder: Path
    run_id: str
    today: date
    plan: Plan = field(default_factory=Plan)

    def corrected(self, corrections: Path, file: Path) -> Plan:
        """The letters of a file, as it has them."""
        self.connection.execute(
            f"create or replace temp table corrected as select * from read_parquet({quote_literal(str(corrections))})"
        )
        self._refuse(
            file,
            "several lines correct one letter: {}",
            "select letter_id || ' on lines ' || string_agg(file_line, ', ' order by file_line) from corrected "
            "group by letter_id having count(*) > 1 order by min(file_line)",
        )
        self._refuse(
            file,
            "no dead letter has the id {}",
            "select letter_id || ' of line ' || file_line from corrected "
            "where letter_id not in (select letter_id from ops.dead_letters) order by file_line",
        )
        self.connection.execute(
            "create or replace temp table chosen as select letters.* exclude (record, corrected, record_bytes), "
            "corrected.record, coalesce(letters.corrected, letters.record) as before "
            "from corrected inner join ops.dead_letters as letters using (letter_id)"
        )
        known = ", ".join(map(quote_literal, self.settings.sources))
        self._refuse(
            file,
            f"{{}}: no such source is in {CONFIG_FILE}; declare it again, or take its lines out",
            f"select distinct source from chosen where source not in ({known or 'null'}) "
            "and (stage <> 'gate' or line is not null) order by 1",
        )
        self._refuse(
            file,
            "a row of a mart cannot be corrected, but the record that it was made of: {}",
            "select letter_id from chosen where stage = 'gate' and line is null order by 1",
        )
        unchanged = self._count("select count(*) from chosen where record is not distinct from before")
        if unchanged:
            self._note(
                unchanged, "is as it was exported and was left out", "are as they were exported and were left out"
            )
        self._land("record is distinct from before")
        if not self.plan.parts:
            raise NothingToReplay("; ".join(self.plan.notes))
        return self.plan

    def stored(self, selection: Selection) -> Plan:
        """The originals of the letters that a selection names; of ids that were not answered, the ids."""
        condition, values = selection.or_open().condition(self.connection)
        self.connection.execute(
            "create or replace temp table chosen as select * from ops.dead_letters "
            f"where state not in ('{REPLAYED}', '{RESOLVED}') and {condition}",
            values,
        )
        total = self._count("select count(*) from chosen")
        if not total:
            raise NothingToReplay("no dead letter that is open is asked for")
        known = ", ".join(map(quote_literal, self.settings.sources)) or "null"
        for source, count in self.connection.execute(
            f"select source, count(*) from chosen where source not in ({known}) and stage <> 'gate' "
            "group by 1 order by 1"
        ).fetchall():
            where = f"of {source}, which is not in {CONFIG_FILE} any more,"
            self._note(count, f"{where} stays", f"{where} stay")
        judged = self._count(f"select count(*) from chosen where stage = 'rule' and source in ({known})")
        judged += self._count("select count(*) from chosen where stage = 'gate'")
        self._refetch(known)
        whole = ", ".join(map(quote_literal, _WHOLE))
        is_kept = f"record_bytes is null and strlen(record) < {LONGEST_RECORD_KEPT} and reasons not in ({whole})"
        is_parsed = "stage in ('fetch', 'parse') and not is_asked_for"
        stuck = self._count(
            f"select count(*) from chosen where {is_parsed} and source in ({known}) and not ({is_kept})"
        )
        if stuck:
            self._note(
                stuck,
                "has no original that can be read on its own: correct it in a file, or mend its file or its settings "
                "and run again",
                "have no original that can be read on its own: correct them in a file, or mend their files or settings "
                "and run again",
            )
        self._land(f"{is_parsed} and {is_kept} and source in ({known})")
        if judged:
            self._note(
                judged,
                "is in raw as it came: the models and gates judge it anew, nothing lands twice",
                "are in raw as they came: the models and gates judge them anew, nothing lands twice",
            )
            self.connection.execute(
                "insert into ops.letter_events select letter_id, ?, ?, ?, null from chosen "
                f"where (stage = 'rule' and source in ({known})) or stage = 'gate'",
                [JUDGE, self.run_id, datetime.now(UTC)],
            )
        if not self.plan.parts and not judged:
            raise NothingToReplay("; ".join(self.plan.notes))
        return self.plan

    def _refetch(self, known: str) -> None:
        """Ask APIs again for the ids that they did not answer for, and for no other."""
        self.connection.execute("alter table chosen add column is_asked_for boolean default false")
        sources = [
            name for name, source in self.settings.sources.items() if isinstance(source, ApiSource) and source.for_each
        ]
        if not sources:
            return
        names = ", ".join(map(quote_literal, sources))
        self.connection.execute(
            f"update chosen set is_asked_for = true where source in ({names}) and source in ({known}) "
            "and stage in ('fetch', 'parse') and line is null and json_valid(record) and json_exists(record, '$.id')"
        )
        found = self.connection.execute(
            """
            select chosen.source, coalesce(loads.partition, ''), list(distinct chosen.record ->> '$.id' order by 1)
            from chosen left join complete_loads as loads on chosen.load_id = loads.load_id
            where is_asked_for group by all order by all
            """
        ).fetchall()
        parts: Mapping[tuple[str, str], Part] = {
            (part.source, part.name): part
            for part in parts_of(self.root, self.settings, sorted({source for source, _, _ in found}), self.today)
        }
        for source, partition, ids in found:
            part = parts.get((source, partition))
            if part is None:
                where = f"of the part {partition} of {source}, which is no more,"
                self._note(len(ids), f"{where} stays", f"{where} stay")
            else:
                self.plan.parts.append(replace(part, ids=ids))

    def _land(self, condition: str) -> None:
        """Write the chosen letters that are to be landed, a file for each source, and plan a part for each file."""
        by_line = ", ".join(
            quote_literal(name) for name, source in self.settings.sources.items() if isinstance(source, CsvSource)
        )
        is_object = "starts_with(ltrim(record), '{') and coalesce(json_valid(record), false)"
        self.connection.execute(
            f"""
            create or replace temp table landing as
            select
                chosen.source, chosen.letter_id, chosen.letter_id || '-' || sha256(chosen.record)[:32] as replay_key,
                coalesce(chosen.location, '') as location, chosen.line, chosen.page, chosen.record,
                chosen.source not in ({by_line or "''"}) or ({is_object}) as is_object,
                nullif(loads.columns, '[]') as columns, loads.dialect
            from (select * from chosen where {condition}) as chosen
            left join complete_loads as loads on chosen.load_id = loads.load_id
            """
        )
        for source, _ in self.connection.execute(
            "select source, count(*) from landing group by 1 order by 1"
        ).fetchall():
            file = self.folder / f"{source}.parquet"
            self.connection.execute(
                f"copy (select * exclude (source) from landing where source = {quote_literal(source)} "
                f"order by location, line, letter_id) to {quote_literal(str(file))} (format parquet)"
            )
            settings = self.settings.sources[source]
            self.plan.parts.append(Part(source, "replay", settings, (settings.priority, 0), replays=file))

    def _refuse(self, file: Path, what: str, query: str) -> None:
        found: Sequence[Any] = self.connection.execute(query).fetchall()
        if found:
            told = ", ".join(str(row[0]) for row in found[:MOST_TOLD])
            more = f" and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
            raise ConfigError(what.format(told + more), where=str(file), fix="nothing was replayed; mend the file")

    def _count(self, query: str) -> int:
        row = self.connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def _note(self, count: int, one: str, many: str) -> None:
        self.plan.notes.append(f"1 letter {one}" if count == 1 else f"{count:,} letters {many}")
