"""A workflow of three agents: two review the same change at once, and the third sums up what they found."""

from results import Figure
from simulated import tagged
from work import Step, Work, side_by_side


def run(iterations: int) -> dict[str, Figure]:
    """As a workflow with a journal, a hand-written one, a loop, and a graph."""
    return side_by_side(iterations, lambda number: {"3 agents": [workflow(f"workflow {number}")]})


def workflow(name: str) -> Work:
    """Its steps; all are new where the name is."""
    return {
        "security": Step(tagged("Review this change for security.", f"{name} security", 300)),
        "style": Step(tagged("Review this change for style.", f"{name} style", 300)),
        "summary": Step(tagged("Sum up what was found.", f"{name} summary", 150), needs=("security", "style")),
    }
