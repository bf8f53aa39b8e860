"""Time and memory at several sizes, and a second run that finds nothing new."""

from benchmarks.benches import Context
from benchmarks.measure import Subject
from benchmarks.penstock import nothing_new, penstock

TITLE = "Penstock at several sizes"
ORDER = 6
AGAINST = "penstock, least"


def subjects(context: Context) -> list[Subject]:
    """Penstock at each of the sizes, the smallest first, and over a file that it has read before."""
    smallest, *larger = sorted(set(context.sizes))
    found = [penstock(context.dataset("csv", smallest), name=AGAINST)]
    for rows in larger:
        note = f"{rows / smallest:g} times the rows of the smallest"
        found.append(penstock(context.dataset("csv", rows), name=f"penstock, {rows:,}", note=note))
    # Of the size that the other benches have, if it is among these.
    rows = context.rows if context.rows in context.sizes else smallest
    return [*found, nothing_new(context.dataset("csv", rows), context.plan.time_limit)]
