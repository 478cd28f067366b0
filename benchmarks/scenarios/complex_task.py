"""One hard task: 60,000 characters to read, an answer of 4,000 tokens; what large texts cost a client."""

from results import Figure
from simulated import tagged
from work import Step, side_by_side

DOCUMENT = "A specification says in each of its lines what the system shall do.\n" * 880


def run(iterations: int) -> dict[str, Figure]:
    """Beside the bare SDK, whose one call is all that a user would write."""
    return side_by_side(
        iterations,
        lambda number: {"a hard task": [{"t": Step(tagged(f"Design this:\n{DOCUMENT}", f"design {number}", 4_000))}]},
        peers=["SDK, one by one"],
    )
