"""One agent reads a file of 200 lines and answers with 300 tokens: what claude-force adds to a single call."""

from results import Figure
from simulated import tagged
from work import Step, side_by_side

FILE = "    total += price * count  # what is in the basket\n" * 200


def run(iterations: int) -> dict[str, Figure]:
    """Beside the bare SDK, whose one call is all that a user would write."""
    return side_by_side(
        iterations,
        lambda number: {"a review": [{"t": Step(tagged(f"Review this:\n{FILE}", f"review {number}", 300))}]},
        peers=["SDK, one by one"],
    )
