"""Tests that a plain `make test` leaves out, so that it takes minutes: `make test ARGS=--slow` leaves nothing out.

Each keeps a promise that a quicker one keeps too, in one more way: another moment, another engine, another form.
"""

SLOW = frozenset(
    {
        "test_books_commands.py::test_a_postgres_warehouse_has_the_same_books",
        "test_catalogue.py::test_a_run_that_goes_on_asks_for_what_failed_and_keeps_its_id",
        "test_catalogue.py::test_an_earlier_run_can_be_built_again_after_later_ones",
        "test_catalogue.py::test_odd_records_are_read_or_rejected_alike_by_both_engines",
        "test_catalogue.py::test_one_that_fails_later_keeps_the_row_that_it_had",
        "test_dead_letters.py::test_corrected_letters_are_published_once_and_resolved[letters.ndjson]",
        "test_ingest_checkpoints.py::test_ids_of_pages_before_a_kill_are_asked_for_too",
        "test_models_shop.py::test_a_load_that_a_crash_repeated_counts_once",
        "test_models_shop.py::test_a_run_publishes_the_shop_a_replay_heals_it_and_a_rebuild_finds_the_same_rows",
        "test_models_shop.py::test_a_table_that_was_dropped_comes_back_as_it_was[table marts.revenue_by_day]",
        "test_models_shop.py::test_after_each_change_the_marts_are_those_of_a_full_refresh",
        "test_models_shop.py::test_both_engines_build_the_same_marts_whole_and_day_by_day",
        "test_models_shop.py::test_other_rules_judge_everything_anew",
        "test_new_source.py::test_hostile_names_stay_names",
        "test_new_source.py::test_records_that_break_a_rule_later_are_rejected_and_newer_versions_win",
        "test_new_source.py::test_without_a_key_a_file_counts_in_its_newest_version",
        "test_postgres_warehouse.py::test_a_killed_run_is_made_good_by_the_next[build]",
        "test_postgres_warehouse.py::test_a_killed_run_is_made_good_by_the_next[ingest]",
        "test_postgres_warehouse.py::test_dead_letters_are_the_same_and_a_correction_is_published_and_resolved",
        "test_publish_benchmarks.py::test_a_partition_that_failed_before_is_published_alone",
        "test_publish_benchmarks.py::test_a_whole_run_gives_every_record_its_outcome",
        "test_resume.py::test_a_build_that_was_killed_is_not_taken_for_the_one_before_it",
        "test_resume.py::test_a_command_in_between_has_the_models_built_again",
        "test_resume.py::test_a_killed_run_goes_on_with_its_warehouse_in_postgres[build started]",
        "test_resume.py::test_a_run_killed_after_its_ingest_goes_on_without_reading_anything_again[books started]",
        "test_resume.py::test_a_run_killed_after_its_ingest_goes_on_without_reading_anything_again[gate marts started]",
        "test_resume.py::test_a_run_killed_after_its_ingest_goes_on_without_reading_anything_again[gate raw started]",
        "test_resume.py::test_a_run_killed_after_its_ingest_goes_on_without_reading_anything_again[publish started]",
        "test_run_faults.py::test_a_killed_run_is_made_good_by_the_next[build]",
        "test_run_faults.py::test_a_killed_run_is_made_good_by_the_next[ingest]",
    }
)
