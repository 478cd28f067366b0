"""Cache cold and warm: 60 tasks that were never asked, and the same ones again."""

from results import Figure
from work import Work, independent, side_by_side


def run(iterations: int) -> dict[str, Figure]:
    """Beside nothing at all, and beside diskcache around the SDK's call, keyed by the whole request."""

    def make(number: int) -> dict[str, list[Work]]:
        work = independent(f"asked {number}", 60)
        return {"60 new tasks": [work], "the same 60 again": [work]}

    return side_by_side(iterations, make, peers=["SDK, asyncio.gather", "SDK, gather, diskcache"])
