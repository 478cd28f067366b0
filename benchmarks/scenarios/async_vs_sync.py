"""Three agents that need nothing of each other, all at once against one after the other; promised: 2 to 3 times.

Where all answers take the same time, 3 is all that there is to gain; where they differ, the longest one bounds it.
"""

from results import Figure
from simulated import tagged
from work import Step, independent, side_by_side


def run(iterations: int) -> dict[str, Figure]:
    """Beside the bare SDK, in both ways, and LangGraph."""
    return side_by_side(
        iterations,
        lambda number: {
            "3 equal agents": [
                {f"t{part}": Step(tagged(f"Review part {part}.", f"equal {number}", 200)) for part in range(3)}
            ],
            "3 independent agents": [independent(f"three {number}", 3)],
        },
    )
