"""Is everything well? One function, `check_health`, for the command line and for whatever answers probes over HTTP.

| status | means | such as |
|---|---|---|
| ok | agents run | |
| degraded | they run, but something is lost or near its end | an unwritable ledger, little disk, an open breaker |
| failing | they cannot run | a faulty config, no agents, every second execution fails, the API refuses us |

It changes nothing and sends nothing, but for one request without tokens where `live` asks for it.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from claude_force.base.clock import Clock, SystemClock
from claude_force.base.config import Settings, claude_folder, load_settings, project_of, server_url
from claude_force.base.endpoints import DEFAULT_ENDPOINT, Endpoint, in_use
from claude_force.base.errors import ApiError, ClaudeForceError, ConfigError, OverloadedError, RateLimitError
from claude_force.base.servers import shown_url
from claude_force.insight.figures import Figures, add_figures, columns_of
from claude_force.insight.ledger import Ledger
from claude_force.library.project import agent_library, budgets_file, runs_file
from claude_force.performance_tracker import PerformanceTracker, metrics_folder
from claude_force.stores.budgets import BudgetFile
from claude_force.stores.entries import StoreError
from claude_force.stores.runs import RunStore
from claude_force.transports.live import LiveTransport

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claude_force.engine.breaker import Snapshot

Status = Literal["ok", "degraded", "failing"]
_ORDER: tuple[Status, ...] = ("ok", "degraded", "failing")

WINDOW = timedelta(hours=1)
# Fewer executions say nothing about a rate: one unlucky call of two is no outage.
ENOUGH_EXECUTIONS = 10
# More than 95 % of executions are promised to succeed.
DEGRADED_RATE = 0.05
FAILING_RATE = 0.5
# As much as the response cache may take by default: below it, a busy day can fill the disk.
LITTLE_BYTES = 100 * 1024 * 1024
LIVE_TIMEOUT_S = 10.0


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about one thing."""

    name: str
    status: Status
    detail: str
    """One sentence for a person."""
    fix: str = ""
    """What to do about it; empty where there is nothing to do."""
    facts: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """The figures behind it, ready for JSON."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All checks; the worst one decides."""

    status: Status
    checked_at: datetime
    checks: tuple[Check, ...]


def check_health(
    config_path: str | os.PathLike[str] | None = None,
    *,
    start: Path | None = None,
    breakers: "Sequence[Snapshot]" = (),
    credentials: bool = False,
    live: bool = False,
) -> Health:
    """How things are in the project of the folder `start`, by default that of the config. Never raises for what is ill.

    `breakers` are those of the process that calls, as only it knows them. `credentials` looks for some, which imports
    the SDK; without any, nothing can run. `live` asks the API for its list of models:
    no tokens, no cost, at most ten seconds.
    """
    clock = SystemClock()
    start = start or project_of(config_path)
    configured = check_config(config_path, start=start)
    checks = [configured.check, _agents(configured.settings, start), check_folder("metrics", metrics_folder(start))]
    cache = (claude_folder(start) or start) / "cache"
    if os.path.isdir(cache):  # noqa: PTH112 - Path.is_dir() may raise
        checks.append(check_folder("cache", cache))
    checks.append(_stores(start))
    if (shared := check_shared(configured.settings)) is not None:
        checks.append(shared)
    checks.append(_executions(configured.settings, start, now=clock.now()))
    checks.append(_breakers(breakers))
    endpoints = in_use(configured.settings.config.endpoints, os.environ) or [DEFAULT_ENDPOINT]
    if credentials:
        checks += _weighed([check_credentials(endpoint) for endpoint in endpoints])
    if live:
        checks += _weighed([_api(clock, endpoint) for endpoint in endpoints], passing=("ok", "degraded"))
    return Health(status=_worst(check.status for check in checks), checked_at=clock.now(), checks=tuple(checks))


def _weighed(checks: "list[Check]", *, passing: tuple[Status, ...] = ("ok",)) -> "list[Check]":
    """Of several ways, one that is fine is enough for agents to run; where none is, they cannot."""
    status: Status = "degraded" if any(check.status in passing for check in checks) else "failing"
    return [check if check.status in passing else msgspec.structs.replace(check, status=status) for check in checks]


def _worst(statuses: "Iterable[Status]") -> Status:
    return max(statuses, key=_ORDER.index, default="ok")


class Configured(NamedTuple):
    """The configuration, and what is to say about it."""

    settings: Settings
    """The defaults where the file is faulty."""
    check: Check


def check_config(config_path: str | os.PathLike[str] | None, *, start: Path) -> Configured:
    """Whether the configuration loads."""
    try:
        settings = load_settings(config_path, start=start)
    except ConfigError as error:
        fix = "mend the file; `claude-force config validate` checks it"
        faulty = {"path": error.path, "problems": list(error.problems)}
        return Configured(Settings(), Check(name="config", status="failing", detail=str(error), fix=fix, facts=faulty))
    facts = {"path": settings.path and str(settings.path)}
    if settings.path is None:
        detail, fix = "no claude.json: the built-in defaults apply", "`claude-force init` writes one"
        return Configured(settings, Check(name="config", status="ok", detail=detail, fix=fix, facts=facts))
    if settings.migrations:
        detail, fix = "of an older version, upgraded in memory", "`claude-force config migrate` upgrades the file"
        check = Check(name="config", status="degraded", detail=f"{settings.path}: {detail}", fix=fix, facts=facts)
        return Configured(settings, check)
    return Configured(settings, Check(name="config", status="ok", detail=str(settings.path), facts=facts))


def _agents(settings: Settings, start: Path) -> Check:
    library = agent_library(settings, start=start)
    found, broken = len(library.load_all()), len(library.problems())
    facts = {"found": found, "broken": broken}
    if not found:
        fix = "`claude-force init` writes a starter set"
        return Check(name="agents", status="failing", detail="none can be used", fix=fix, facts=facts)
    if broken:
        detail, fix = f"{found} found, {broken} file(s) cannot be used", "`claude-force agents validate` says why"
        return Check(name="agents", status="degraded", detail=detail, fix=fix, facts=facts)
    return Check(name="agents", status="ok", detail=f"{found} found", facts=facts)


def check_folder(name: str, folder: Path) -> Check:
    """Whether the folder, or the one that it would be made in, can be written, and how much room is there."""
    existing = next(place for place in (folder, *folder.parents) if os.path.exists(place))  # noqa: PTH110 - or it may raise
    facts: dict[str, Any] = {"path": str(folder), "writable": False}
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        fix = f"make {existing} a folder that you may write to"
        return Check(name=name, status="degraded", detail=f"{folder} cannot be written", fix=fix, facts=facts)
    free = shutil.disk_usage(existing).free
    facts |= {"writable": True, "free_bytes": free}
    detail = f"{folder}, {free / 1024**3:,.1f} GB free"
    if free < LITTLE_BYTES:
        return Check(name=name, status="degraded", detail=detail, fix="make room on that disk", facts=facts)
    return Check(name=name, status="ok", detail=detail, facts=facts)


def _stores(start: Path) -> Check:
    """The files that processes of the project share beside the ledger and the cache, as far as they are there."""
    check = check_folder("stores", runs_file(start).parent)
    for store in (RunStore(runs_file(start)), BudgetFile(budgets_file(start))):
        try:
            store.changes()
        except StoreError as error:
            fix = "move that file away; a new one is made"
            return Check(name="stores", status="degraded", detail=str(error), fix=fix, facts={"path": str(store.path)})
        finally:
            store.close()
    return check


def check_shared(settings: Settings) -> Check | None:
    """Whether the server answers through which machines share limits and budgets; `None` where there is none."""
    url = server_url(settings.config, "shared.url", os.environ)
    if url is None:
        return None
    from claude_force.stores.documents import shared_documents  # noqa: PLC0415 - most share nothing

    facts = {"url": shown_url(url)}
    try:
        documents = shared_documents(url)
        try:
            remark = documents.check()
        finally:
            documents.close()
    except (ConfigError, StoreError) as error:
        limits = settings.config.budgets
        has_budget = limits.per_day_usd or limits.per_agent_per_day_usd or limits.per_run_usd
        detail = f"{error}; {'nothing is sent' if has_budget else 'limits and breakers are those of each process'}"
        status: Status = "failing" if has_budget else "degraded"
        return Check(name="shared", status=status, detail=detail, fix="mend the server, or shared.url", facts=facts)
    if remark:
        fix = "`appendonly yes` in its configuration, if budgets matter"
        return Check(name="shared", status="ok", detail=f"{facts['url']} answers; {remark}", fix=fix, facts=facts)
    return Check(name="shared", status="ok", detail=f"{facts['url']} answers", facts=facts)


def check_credentials(endpoint: Endpoint = DEFAULT_ENDPOINT) -> Check:
    """Whether there are any, as the SDK resolves them, without a request. Where there are none, it is degraded."""
    name = _named("credentials", endpoint)
    facts = {key: value for key, value in msgspec.structs.asdict(endpoint).items() if value} if endpoint.name else {}
    transport = LiveTransport()
    try:
        client = transport.client_of(endpoint)
        if (address := client.base_url).scheme not in {"http", "https"} or not address.host:
            detail, fix = "the address is no URL", "mend ANTHROPIC_BASE_URL"
            return Check(name=name, status="failing", detail=detail, fix=fix)
        port = f":{address.port}" if address.port else ""
        detail = f"for {address.scheme}://{address.host}{port}"  # without user and password: this gets pasted
        if endpoint.name:
            detail += "".join(f", {key} {facts[key]}" for key in ("weight", "region", "inference_geo") if key in facts)
        if client.api_key or client.auth_token:
            source = endpoint.api_key_env or "the environment"
            return Check(name=name, status="ok", detail=f"a key or token from {source}, {detail}", facts=facts)
        if client.credentials is not None:
            return Check(name=name, status="ok", detail=f"a profile or workload identity, {detail}", facts=facts)
    except ClaudeForceError as error:
        if endpoint.api_key_env:
            fix = f"set {endpoint.api_key_env}; until then it is left out"
            return Check(name=name, status="degraded", detail=str(error), fix=fix, facts=facts)
        fix = "see ANTHROPIC_PROFILE, ANTHROPIC_BASE_URL"
        return Check(name=name, status="failing", detail=str(error), fix=fix, facts=facts)
    finally:
        transport.close()
    fix = "set ANTHROPIC_API_KEY, or use --offline"
    return Check(name=name, status="degraded", detail="none", fix=fix, facts=facts)


def _named(name: str, endpoint: Endpoint) -> str:
    return f"{name} of {endpoint.name}" if endpoint.name else name


def _executions(settings: Settings, start: Path, *, now: datetime) -> Check:
    if not settings.config.tracking.enabled:
        return Check(name="executions", status="ok", detail="not known: tracking.enabled is false")
    path = PerformanceTracker(metrics_folder(start)).path
    ledger, total, models, simulated = Ledger(path), Figures(), defaultdict[str, Figures](Figures), 0
    try:
        for line in ledger.lines(since=now - WINDOW):
            add_figures((models[line.model or "unknown"],), (0,), columns_of((line,)))
            simulated += line.simulated
    except OSError as error:
        detail = f"{path} cannot be read: {error.strerror or error}"
        return Check(name="executions", status="degraded", detail=detail, fix="mend or remove it")
    for figures in models.values():
        total.merge(figures)
    facts = {
        "window_s": WINDOW.total_seconds(),
        **_facts(total),
        "models": {model: _facts(figures) for model, figures in sorted(models.items())},
        "error_types": dict(total.error_types.most_common()),
        "interrupted": total.interrupted,
        "simulated": simulated,
        "unreadable_lines": ledger.unreadable_lines,
    }
    status = _judged(total)
    if status == "ok" and _worst(map(_judged, models.values())) != "ok":
        status = "degraded"  # one model of several that fails is not all of it: the others go on
    detail = f"{total.ended:,} in the last hour, {total.failed:,} failed"
    if total.failed:
        detail += f" ({', '.join(f'{kind} {number:,}' for kind, number in total.error_types.most_common(3))})"
    fix = "" if status == "ok" else "see error_type in the last lines of the ledger"
    return Check(name="executions", status=status, detail=detail, fix=fix, facts=facts)


def _facts(figures: Figures) -> dict[str, Any]:
    """What the user interrupted is neither."""
    rate = round(figures.error_rate or 0.0, 4)
    return {"executions": figures.ended, "errors": figures.failed, "error_rate": rate}


def _judged(figures: Figures) -> Status:
    rate = figures.error_rate
    if rate is None or figures.ended < ENOUGH_EXECUTIONS or rate <= DEGRADED_RATE:
        return "ok"
    return "failing" if rate >= FAILING_RATE else "degraded"


def _breakers(breakers: "Sequence[Snapshot]") -> Check:
    if not breakers:
        return Check(name="breakers", status="ok", detail="none in this process; they live where calls are made")
    tripped = [breaker for breaker in breakers if breaker.state != "closed"]
    facts = {breaker.name: str(breaker.state) for breaker in breakers}
    if not tripped:
        return Check(name="breakers", status="ok", detail=f"{len(breakers)} closed", facts=facts)
    detail = ", ".join(f"{breaker.name} is {breaker.state}" for breaker in tripped)
    return Check(name="breakers", status="degraded", detail=detail, fix="wait, or use another model", facts=facts)


def _api(clock: Clock, endpoint: Endpoint) -> Check:
    transport, name = LiveTransport(), _named("api", endpoint)
    begun = clock.monotonic()
    try:
        address = transport.client_of(endpoint).base_url.host  # outside the measured time: the import takes a second
        begun = clock.monotonic()
        transport.list_models(timeout_s=LIVE_TIMEOUT_S, endpoint=endpoint)
    except ApiError as error:
        return _api_trouble(
            name, error, {"latency_ms": round((clock.monotonic() - begun) * 1000, 1), "status": error.status}
        )
    finally:
        transport.close()
    latency_ms = round((clock.monotonic() - begun) * 1000, 1)
    detail = f"{address} answers in {latency_ms:.0f} ms"
    return Check(name=name, status="ok", detail=detail, facts={"latency_ms": latency_ms, "status": 200})


_NOT_SERVED = frozenset({404, 405, 501})


def _api_trouble(name: str, error: ApiError, facts: dict[str, Any]) -> Check:
    """What passes with time, and a server that only lacks the list of models, does not keep agents from running."""
    facts |= {"error_type": type(error).__name__, "error_code": error.error_code}
    if error.status in _NOT_SERVED:
        detail = f"answers, but has no list of models (HTTP {error.status}), so the credentials are not tried"
        return Check(name=name, status="degraded", detail=detail, facts=facts)
    passes = isinstance(error, RateLimitError | OverloadedError)
    return Check(name=name, status="degraded" if passes else "failing", detail=str(error), facts=facts)
