"""A Messages API on loopback, for `--offline`, tests and benchmarks. It speaks to the real SDK and asks no model.

| module | |
|---|---|
| `simulator` | `Simulator`, `serve`: started, told, watched, stopped |
| `script` | what users write down: answers, latencies, faults, rules |
| `api` | from a request to its response; `rules`, `catalogue`, `schema`: what is accepted; `batches` |
| `message` | the reply and its events; `prompt`: tokens and the prompt cache; `chance`, `limits` |
| `plans` | which bytes are sent when; faults are worked in here |
| `server`, `wire` | sockets, HTTP; `board`: counts and the gate |

It starts in milliseconds and needs the standard library only. It never leaves loopback and keeps nothing on disk.
`claude_force.testing` is the door for users' tests.
"""

from claude_force.transports.simulator.simulator import Simulator, serve

__all__ = ["Simulator", "serve"]
