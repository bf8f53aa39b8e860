"""An expectation about one number that a query gives, such as the share of rejected records."""

from typing import Any, ClassVar

from great_expectations.execution_engine import ExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation


class ExpectMeasureToBeBetween(BatchExpectation):  # type: ignore[misc]  # GX is not typed for us
    """Expect the first column of the only row of `query` to be within the bounds, both inclusive.

    `query` reads `{batch}`; literal braces in it are doubled. Further columns tell more: `element_count`,
    `unexpected_count`, `examples` (a list of structs, one for each sample row), and any other as one sample row.
    No bound at all records the number for the runs to come. NULL fails, so a query for which no row is a fair answer
    says so itself with coalesce. `rows_query` gives every row that counts as unexpected, where the measure is about
    single rows: they become dead letters. GX's own query expectation fails on rows and so never tells a number that is
    right.
    """

    measure: str
    query: str
    rows_query: str | None = None
    min_value: float | None = None
    max_value: float | None = None

    metric_dependencies: ClassVar[tuple[str, ...]] = ("query.table",)
    success_keys: ClassVar[tuple[str, ...]] = ("measure", "query", "min_value", "max_value")
    domain_keys: ClassVar[tuple[str, ...]] = ("batch_id",)

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,  # noqa: ARG002 (GX passes it)
        execution_engine: ExecutionEngine | None = None,  # noqa: ARG002 (GX passes it)
    ) -> dict[str, Any]:
        rows = metrics["query.table"]
        if len(rows) != 1:
            raise ValueError(f"the query of {self.measure} gave {len(rows)} rows instead of one")
        (_, number), *others = rows[0].items()
        shown = dict(others)
        result = {name: shown.pop(name) for name in ("element_count", "unexpected_count") if name in shown}
        examples = shown.pop("examples", None) or ([shown] if shown else [])
        observed = None if number is None else float(number)
        is_within = observed is not None and (
            (self.min_value is None or observed >= self.min_value)
            and (self.max_value is None or observed <= self.max_value)
        )
        return {
            "success": is_within,
            "result": {**result, "observed_value": observed, "details": {"unexpected_rows": examples}},
        }
