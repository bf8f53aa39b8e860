"""Tests that a plain `make test` leaves out, so that it takes minutes: `make test ARGS=--slow` leaves nothing out.

Each keeps a promise that a quicker one keeps too, in one more way: another moment, another engine, another form.
"""

SLOW = frozenset(
    {
        "test_books_commands.py::test_a_postgres_warehouse_has_the_same_books",
        "test_catalogue.py::test_a_run_that_goes_on_asks_for_what_failed_and_keeps_its_id",
        "test_catalogue.py::test_an_earlier_run_can_be_built_again_after_later_ones",
        "test_catalogue.py::test_both_engines_build_the_same_marts",
        "test_catalogue.py::test_odd_records_are_read_or_rejected_alike_by_both_engines",
        "test_catalogue.py::test_one_that_fails_later_keeps_the_row_that_it_had",
        "test_dead_letters.py::test_corrected_letters_are_published_once_and_resolved[letters.ndjson]",
        "test_disk_full.py::test_each_size_that_is_too_small_is_told_and_made_good",
        "test_ingest_checkpoints.py::test_ids_of_pages_before_a_kill_are_asked_for_too",
        "test_models_employees.py::test_a_later_load_changes_only_the_employees_in_it",
        "test_models_shop.py::test_a_load_that_a_crash_repeated_counts_once",
        "test_models_shop.py::test_a_run_publishes_the_shop_a_replay_heals_it_and_a_rebuild_finds_the_same_rows",
        "test_models_shop.py::test_a_table_that_was_dropped_comes_back_as_it_was[table marts.revenue_by_day]",
        "test_models_shop.py::test_after_each_change_the_marts_are_those_of_a_full_refresh",
        "test_models_shop.py::test_both_engines_build_the_same_marts_whole_and_day_by_day",
        "test_models_shop.py::test_other_rules_judge_everything_anew",
        "test_new_source.py::test_a_source_joins_a_domain_that_is_there_with_books_of_its_own",
        "test_new_source.py::test_hostile_names_stay_names",
        "test_new_source.py::test_records_that_break_a_rule_later_are_rejected_and_newer_versions_win",
        "test_new_source.py::test_without_a_key_a_file_counts_in_its_newest_version",
        "test_postgres_warehouse.py::test_a_killed_run_is_made_good_by_the_next[build]",
        "test_postgres_warehouse.py::test_a_killed_run_is_made_good_by_the_next[ingest]",
        "test_postgres_warehouse.py::test_dead_letters_are_the_same_and_a_correction_is_published_and_resolved",
        "test_publish_benchmarks.py::test_a_partition_that_failed_before_is_published_alone",
        "test_publish_benchmarks.py::test_a_whole_run_gives_every_record_its_outcome",
        "test_publish_faults.py::test_a_kill_at_any_statement_leaves_one_whole_release_and_the_next_publish_is_right[rollback]",
        "test_resume.py::test_a_build_that_was_killed_is_not_taken_for_the_one_before_it",
        "test_resume.py::test_a_command_in_between_has_the_models_built_again",
        "test_resume.py::test_a_killed_run_goes_on_with_its_warehouse_in_postgres[build started]",
        "test_resume.py::test_a_killed_run_goes_on_with_its_warehouse_in_postgres[publish started]",
        "test_resume.py::test_a_run_killed_after_its_ingest_goes_on_without_reading_anything_again[books started]",
        "test_resume.py::test_a_run_killed_after_its_ingest_goes_on_without_reading_anything_again[gate marts started]",
        "test_resume.py::test_a_run_killed_after_its_ingest_goes_on_without_reading_anything_again[gate raw started]",
        "test_resume.py::test_a_run_killed_after_its_ingest_goes_on_without_reading_anything_again[publish started]",
        "test_resume.py::test_another_day_and_another_process_are_refused",
        "test_resume.py::test_what_changed_since_is_told_and_changed_models_are_built_again",
        "test_run_faults.py::test_a_killed_run_is_made_good_by_the_next[build]",
        "test_run_faults.py::test_a_killed_run_is_made_good_by_the_next[ingest]",
        "test_run_faults.py::test_a_source_tried_once_and_removed_does_not_hold_the_release",
        "test_thresholds.py::test_a_few_bad_records_stop_nothing_and_a_share_beyond_the_warning_is_told_everywhere",
    }
)
