"""For tests of code that uses claude-force: a Messages API on loopback, and a switch that forbids real calls.

With pytest, one line in `conftest.py` gives every test the fixture `simulator`:

```python
from claude_force.testing import simulator
```

Without pytest, or where a test wants a simulator of its own, use `Simulator` as a context manager:

```python
from claude_force.testing import ApiFault, Simulator

with Simulator(answer="Looks good.", faults=[ApiFault(529)]) as simulator:
    ...  # point your client at simulator.base_url, with any API key
```

**The switch.** While the environment variable `CLAUDE_FORCE_ALLOW_REAL_CALLS` is `"0"`, our transports refuse every
base URL that is not on loopback. The fixture sets it; set it for a whole test run, and no test can spend money.
"""

from types import MappingProxyType
from typing import TYPE_CHECKING

from claude_force.transports.simulator import Simulator
from claude_force.transports.simulator.api import SIMULATED_HEADER
from claude_force.transports.simulator.board import Stats
from claude_force.transports.simulator.limits import ApiLimits
from claude_force.transports.simulator.message import SIMULATED_LINE
from claude_force.transports.simulator.script import (
    Answer,
    AnswerSource,
    ApiFault,
    BadJson,
    CutStream,
    Disconnect,
    Fault,
    Hang,
    Latency,
    MidStreamError,
    NotMessages,
    Refusal,
    Rule,
    SeenRequest,
    Stall,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "ALLOW_REAL_CALLS",
    "SIMULATED_HEADER",
    "SIMULATED_LINE",
    "Answer",
    "AnswerSource",
    "ApiFault",
    "ApiLimits",
    "BadJson",
    "CutStream",
    "Disconnect",
    "Fault",
    "Hang",
    "Latency",
    "MidStreamError",
    "NotMessages",
    "Refusal",
    "Rule",
    "SeenRequest",
    "Simulator",
    "Stall",
    "Stats",
    "Step",
    "environment",
]

ALLOW_REAL_CALLS = "CLAUDE_FORCE_ALLOW_REAL_CALLS"
LOOPBACK = "127.0.0.1,localhost,::1"

# Other credentials would win over the key, or fail before a request is made, where the user's own machine has them.
_OTHER_CREDENTIALS = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CONFIG_DIR")


def environment(base_url: str) -> "Mapping[str, str]":
    """The environment variables that send a program (this one, or one that a test starts) to a simulator only."""
    return MappingProxyType(
        {
            "ANTHROPIC_BASE_URL": base_url,
            "ANTHROPIC_API_KEY": "simulated",
            ALLOW_REAL_CALLS: "0",
            "NO_PROXY": LOOPBACK,  # or a proxy of the user's would see the requests
            "no_proxy": LOOPBACK,  # read first where both are set
        }
    )


try:
    import pytest
except ModuleNotFoundError:  # everything above works without it
    pass
else:

    @pytest.fixture
    def simulator(monkeypatch: pytest.MonkeyPatch) -> "Iterator[Simulator]":
        """A running simulator, to which the SDK and claude-force are sent by the environment for this test."""
        for name in _OTHER_CREDENTIALS:
            monkeypatch.delenv(name, raising=False)
        with Simulator() as running:
            for name, value in environment(running.base_url).items():
                monkeypatch.setenv(name, value)
            yield running

    __all__ += ["simulator"]
