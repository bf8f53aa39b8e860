"""One module per judged table, named after it; adding the file is all it takes. What a module holds:

    GATE    the schema of the table, which is also the gate that judges it: "raw" or "marts"
    KEY     the columns that tell which row a sample is
    build   History -> the suite, named after the table; a docstring of the module says what the suite guards

Every row that failed a check becomes a dead letter, up to 10,000 a check, where the check can name its rows: an
expectation on the values in rows, if there is a KEY; UnexpectedRowsExpectation; a measure with a `rows_query`.

Order inside a suite: table shape, keys, values, statistics. `notes=` gives the reason of a bound. A failure of severity
"critical" stops the run before anything is published, one of "warning" is reported. A rule about single rows or about
relations between tables is a dbt test, and is not repeated here. Names that begin with `_` are no suites.
"""
