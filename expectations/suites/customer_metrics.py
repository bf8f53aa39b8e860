"""marts.customer_metrics: the customers as a whole buy as they did, and we know who they are."""

import great_expectations as gx
import great_expectations.expectations as gxe

from expectations.history import History
from expectations.suites import _marts

GATE = "marts"
KEY = ("customer_id",)

LARGEST_UNKNOWN_SHARE = 5.0
LARGEST_UNKNOWN_DRIFT = 2.0
LARGEST_PROSPECT_DRIFT = 10.0
LARGEST_REVENUE_DRIFT = 0.5


def build(history: History) -> gx.ExpectationSuite:
    """The suite of one judgement."""
    return gx.ExpectationSuite(
        name="customer_metrics",
        expectations=[
            *_marts.volume("customer_metrics", history),
            _marts.measure_near(
                "customer_metrics",
                "orders_of_unknown_customers_pct",
                """
                    select coalesce(100.0 * sum(case when is_known then 0 else count_orders end)
                        / nullif(sum(count_orders), 0), 0)
                    from {batch}
                """,
                LARGEST_UNKNOWN_DRIFT,
                history,
                "Single customers come after their orders. More than this is a list of customers that was cut, or ids "
                "that are spelt otherwise.",
                max_value=LARGEST_UNKNOWN_SHARE,
            ),
            _marts.measure_near(
                "customer_metrics",
                "without_orders_pct",
                "select coalesce(100.0 * avg(case when count_orders = 0 then 1 else 0 end), 0) from {batch}",
                LARGEST_PROSPECT_DRIFT,
                history,
                "Null dates and scores. Customers are won over months; a jump is orders that were lost.",
            ),
            *_marts.mean_near(
                "customer_metrics",
                "revenue_usd",
                LARGEST_REVENUE_DRIFT,
                history,
                "What a customer spends grows with the days that are loaded, a few percent at a time.",
            ),
            gxe.ExpectColumnMeanToBeBetween(
                column="order_value_average_usd",
                min_value=1,
                max_value=1_000,
                severity="warning",
                notes="US dollars: a mean outside of this is an amount in cents, or in another currency.",
            ),
        ],
    )
