"""The way to Claude through the real SDK, blocking and awaited. One request, one answer, no retries.

`anthropic` costs a second and 70 MB to import, so it is imported at the first call. Credentials and address are the
SDK's own business (`ANTHROPIC_API_KEY`, profiles, `ANTHROPIC_BASE_URL` ...); any server that speaks the Messages API
will do. No foreign error leaves: see `foreign`. The API's own words are in `wire`.
"""

import functools
import importlib
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from claude_force.base.endpoints import DEFAULT_ENDPOINT
from claude_force.base.errors import ApiError, ConnectionFailedError, CredentialsError, TimedOutError
from claude_force.base.servers import shown_url
from claude_force.transports.foreign import translated
from claude_force.transports.wire import Assembly, read_body, read_count, read_models, to_count, to_parameters

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractContextManager

    import anthropic

    from claude_force.base.endpoints import Endpoint
    from claude_force.base.ports import OnText
    from claude_force.base.records import Caching, Reply, Request

# Above this many tokens the API wants a stream: an unstreamed answer could take longer than its ten minutes.
MAX_UNSTREAMED_TOKENS = 21_333


class LiveTransport:
    """Blocking calls through `anthropic.Anthropic`, one client with its pool for each endpoint and all threads."""

    def __init__(self, *, api_key: str | None = None, base_url: str | None = None) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._clients: dict[str, anthropic.Anthropic] = {}
        """By the name of their endpoint."""
        self._making = threading.Lock()  # so that two threads in their first call make one client
        self._ending: weakref.finalize[..., LiveTransport] | None = None
        _ALIVE.add(self)

    def client_of(self, endpoint: "Endpoint") -> "anthropic.Anthropic":
        """The SDK's client of this way, made at the first use. Raises `CredentialsError`, `ConnectionFailedError`."""
        if endpoint.name not in self._clients:
            with self._making, translated(None):
                if endpoint.name not in self._clients:
                    import anthropic  # noqa: PLC0415 - see the module's docstring

                    base_url = endpoint.base_url or self._base_url
                    address = base_url or os.environ.get("ANTHROPIC_BASE_URL")
                    http_client = _direct_client(address) if _is_loopback(address) else _client()
                    client = anthropic.Anthropic(
                        api_key=_key_of(endpoint) or self._api_key,
                        base_url=base_url,
                        max_retries=0,
                        http_client=http_client,
                    )
                    _check_allowed(str(client.base_url))
                    if self._ending is None:
                        self._ending = weakref.finalize(self, _close, self._clients)  # for whoever forgets to
                    self._clients[endpoint.name] = client
        return self._clients[endpoint.name]

    def send(
        self,
        request: "Request",
        *,
        timeout_s: float,
        on_text: "OnText | None" = None,
        caching: "Caching | None" = None,
        endpoint: "Endpoint" = DEFAULT_ENDPOINT,
    ) -> "Reply":
        """Send once. Streams where somebody watches, or waits for the beginning, or where the API wants it.

        Else it makes the cheaper plain call.
        """
        messages = _messages(self.client_of(endpoint))  # the first imports the SDK: no fault of the server's
        parameters = to_parameters(request, caching, inference_geo=endpoint.inference_geo)
        parameters["timeout"] = _attempt_timeout(timeout_s)
        with _deadline(timeout_s):
            if not _streams(request, on_text, caching):
                with translated(request):
                    raw = messages.with_raw_response.create(**parameters)
                    return read_body(raw.http_response.content, raw.headers)
            assembly = Assembly(caching.on_begin if caching else None)
            with translated(request):
                stream = messages.create(**parameters, stream=True)
            assembly.begin(stream.response.headers)
            with stream:
                for text in _texts(stream, assembly, request):
                    if on_text is not None:
                        on_text(text)
            return assembly.reply()

    def count_tokens(self, request: "Request", *, timeout_s: float, endpoint: "Endpoint" = DEFAULT_ENDPOINT) -> int:
        """How many tokens its prompt has."""
        messages = self.client_of(endpoint).messages
        with translated(request), _deadline(timeout_s):
            raw = messages.with_raw_response.count_tokens(**to_count(request), timeout=_attempt_timeout(timeout_s))
            return read_count(raw.http_response.content)

    def list_models(self, *, timeout_s: float, endpoint: "Endpoint" = DEFAULT_ENDPOINT) -> list[str]:
        """The ids of the first models that the server lists: a request without tokens, to see that it answers."""
        models = self.client_of(endpoint).models
        with translated(None), _deadline(timeout_s):
            raw = models.with_raw_response.list(limit=1, timeout=_attempt_timeout(timeout_s))
            return read_models(raw.http_response.content)

    def close(self) -> None:
        """Close every connection; the next call opens new ones."""
        _close(self._clients)

    def _after_fork(self) -> None:
        if self._ending is not None:
            self._ending.detach()
        _INHERITED.append(self._clients)
        self._clients, self._ending, self._making = {}, None, threading.Lock()


_ALIVE: "weakref.WeakSet[LiveTransport]" = weakref.WeakSet()
_INHERITED: list[object] = []
"""A forked child must not even close its parent's connections: that would end them in mid-word."""


def _after_fork() -> None:
    """A child opens connections of its own: on a shared one, each would read the answers of the other."""
    for transport in _ALIVE:
        transport._after_fork()  # noqa: SLF001 - its own module


os.register_at_fork(after_in_child=_after_fork)


class AsyncLiveTransport:
    """As `LiveTransport`, awaited, through `anthropic.AsyncAnthropic` on aiohttp: half the default's CPU under load."""

    def __init__(self, *, api_key: str | None = None, base_url: str | None = None) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._clients: dict[str, anthropic.AsyncAnthropic] = {}
        """By the name of their endpoint."""

    def client_of(self, endpoint: "Endpoint") -> "anthropic.AsyncAnthropic":
        """The SDK's client of this way, made at the first use, for the loop that runs then."""
        if endpoint.name not in self._clients:
            with translated(None):
                import anthropic  # noqa: PLC0415 - see the module's docstring

                base_url = endpoint.base_url or self._base_url
                address = base_url or os.environ.get("ANTHROPIC_BASE_URL")
                client = anthropic.AsyncAnthropic(
                    api_key=_key_of(endpoint) or self._api_key,
                    base_url=base_url,
                    max_retries=0,
                    http_client=anthropic.DefaultAioHttpClient(
                        trust_env=not _is_loopback(address), verify=_certificates(address), follow_redirects=False
                    ),
                )
                _check_allowed(str(client.base_url))
                self._clients[endpoint.name] = client
        return self._clients[endpoint.name]

    async def send(
        self,
        request: "Request",
        *,
        timeout_s: float,
        on_text: "OnText | None" = None,
        caching: "Caching | None" = None,
        endpoint: "Endpoint" = DEFAULT_ENDPOINT,
    ) -> "Reply":
        """As `LiveTransport.send`, awaited; cancelling it closes the connection."""
        import asyncio  # noqa: PLC0415 - whoever awaits has it already

        await self._loaded()
        assembly = Assembly(caching.on_begin if caching else None)
        limit = asyncio.timeout(timeout_s)
        try:
            async with limit:
                return await self._send(
                    request, assembly, endpoint, timeout_s=timeout_s, on_text=on_text, caching=caching
                )
        except TimeoutError as error:
            if not limit.expired():  # somebody else's
                raise
            if assembly.is_complete:  # paid and whole; what is late is only the end of the stream
                return assembly.reply()
            raise _too_late(timeout_s, has_begun=assembly.has_begun) from error

    async def _loaded(self) -> None:
        """The import takes a second, for which no loop can wait, and which is no fault of the server's."""
        import asyncio  # noqa: PLC0415 - whoever awaits has it already

        if not self._clients:
            await asyncio.to_thread(importlib.import_module, "anthropic")

    async def _send(
        self,
        request: "Request",
        assembly: Assembly,
        endpoint: "Endpoint",
        *,
        timeout_s: float,
        on_text: "OnText | None",
        caching: "Caching | None",
    ) -> "Reply":
        messages = _messages(self.client_of(endpoint))
        parameters = to_parameters(request, caching, inference_geo=endpoint.inference_geo)
        parameters["timeout"] = _attempt_timeout(timeout_s)
        if not _streams(request, on_text, caching):
            with translated(request):
                raw = await messages.with_raw_response.create(**parameters)
                return read_body(await raw.http_response.aread(), raw.headers)
        with translated(request):
            stream = await messages.create(**parameters, stream=True)
        assembly.begin(stream.response.headers)
        async with stream, aclosing(_texts_async(stream, assembly, request)) as texts:
            async for text in texts:
                if on_text is not None:
                    on_text(text)
        return assembly.reply()

    async def count_tokens(
        self, request: "Request", *, timeout_s: float, endpoint: "Endpoint" = DEFAULT_ENDPOINT
    ) -> int:
        """As `LiveTransport.count_tokens`, awaited."""
        await self._loaded()
        messages = self.client_of(endpoint).messages
        with translated(request):
            timeout = _attempt_timeout(timeout_s)
            raw = await messages.with_raw_response.count_tokens(**to_count(request), timeout=timeout)
            return read_count(await raw.http_response.aread())

    async def aclose(self) -> None:
        """Close every connection; the next call opens new ones."""
        while self._clients:
            await self._clients.popitem()[1].close()


class ThreadedTransport:
    """A blocking transport, awaited in a thread: what `features.async_enabled: false` falls back to."""

    def __init__(self, transport: LiveTransport) -> None:
        self._transport = transport

    async def send(
        self,
        request: "Request",
        *,
        timeout_s: float,
        on_text: "OnText | None" = None,
        caching: "Caching | None" = None,
        endpoint: "Endpoint" = DEFAULT_ENDPOINT,
    ) -> "Reply":
        """As `LiveTransport.send`; `on_text` is called in the loop's own thread, as it may touch what belongs there.

        A cancellation does not wait for the thread, which ends with the answer, or at its next piece of text.
        """
        import asyncio  # noqa: PLC0415 - whoever awaits has it already

        loop, is_over = asyncio.get_running_loop(), asyncio.Event()

        async def tell(text: str) -> None:
            if is_over.is_set():
                raise asyncio.CancelledError
            if on_text is not None:
                on_text(text)

        def tell_home(text: str) -> None:
            asyncio.run_coroutine_threadsafe(tell(text), loop).result()

        send = functools.partial(
            self._transport.send,
            request,
            timeout_s=timeout_s,
            on_text=None if on_text is None else tell_home,
            caching=caching,
            endpoint=endpoint,
        )
        try:
            return await asyncio.to_thread(send)
        finally:
            is_over.set()

    async def count_tokens(
        self, request: "Request", *, timeout_s: float, endpoint: "Endpoint" = DEFAULT_ENDPOINT
    ) -> int:
        """As `LiveTransport.count_tokens`, in a thread."""
        import asyncio  # noqa: PLC0415 - whoever awaits has it already

        return await asyncio.to_thread(self._transport.count_tokens, request, timeout_s=timeout_s, endpoint=endpoint)

    async def aclose(self) -> None:
        """Close every connection; the next call opens new ones."""
        self._transport.close()


def _key_of(endpoint: "Endpoint") -> str | None:
    """Its key, which only the environment has; `None` where it is as the SDK finds it."""
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env)
    if not key:
        raise CredentialsError(f"{endpoint.api_key_env} has no key in this environment; set it")
    return key


def _close(clients: "dict[str, anthropic.Anthropic]") -> None:
    while clients:
        clients.popitem()[1].close()


def _messages(client: Any) -> Any:  # noqa: ANN401 - the SDK's, whose sync and async classes have no common one
    """Its calls, without the SDK's own span where somebody traces: ours has the tokens, and they must not count twice.

    The trace goes along in the headers that the SDK would have sent.
    """
    from opentelemetry import trace  # noqa: PLC0415 - the SDK has loaded it

    if not trace.get_current_span().get_span_context().is_valid:
        return client.messages
    headers: dict[str, str] = {}
    with suppress(Exception):  # OTEL_PROPAGATORS may name one that cannot be loaded
        from opentelemetry import propagate  # noqa: PLC0415 - only who traces needs it

        if client.open_telemetry["propagation"]:
            propagate.inject(headers)
    return client.with_options(open_telemetry={"traces": False}, default_headers=headers).messages


def _streams(request: "Request", on_text: "OnText | None", caching: "Caching | None") -> bool:
    """Whether the answer is asked for as a stream, each event of which costs CPU."""
    is_awaited = caching is not None and caching.on_begin is not None
    return on_text is not None or is_awaited or request.max_tokens > MAX_UNSTREAMED_TOKENS


def _is_loopback(base_url: str | None) -> bool:
    """Whether calls stay on this machine: a proxy of the environment must never see those."""
    try:
        return urlsplit(base_url or "").hostname in {"127.0.0.1", "::1", "localhost"}
    except ValueError:  # the SDK says better what is wrong with it
        return False


def _client(**options: Any) -> "anthropic.DefaultHttpxClient":  # noqa: ANN401 - the SDK's own
    """The SDK's HTTP client, but for redirects: the task would go along, to whomever an answer names."""
    import anthropic  # noqa: PLC0415 - see the module's docstring

    from claude_force.transports.deadline import keep_deadlines  # noqa: PLC0415

    client = anthropic.DefaultHttpxClient(follow_redirects=False, **options)
    keep_deadlines(client)
    return client


def _direct_client(base_url: str | None) -> "anthropic.DefaultHttpxClient":
    """Without what the environment says: it takes proxies from there whatever `trust_env` is."""
    import httpx2  # noqa: PLC0415 - see the module's docstring

    return _client(trust_env=False, transport=httpx2.HTTPTransport(trust_env=False, verify=_certificates(base_url)))


def _certificates(base_url: str | None) -> "ssl.SSLContext | bool":
    """Whom TLS trusts: those whom the machine trusts, or nobody, where plain calls stay on this machine.

    Reading the machine's certificates costs more than ten such calls, and is most of what a client costs to make.
    """
    import ssl  # noqa: PLC0415 - the SDK has loaded it by now

    is_plain = _is_loopback(base_url) and urlsplit(base_url or "").scheme == "http"
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else True


def _check_allowed(base_url: str) -> None:
    """The one switch that forbids real calls: tests set it, and nothing but loopback is reached."""
    if os.environ.get("CLAUDE_FORCE_ALLOW_REAL_CALLS") == "0" and not _is_loopback(base_url):
        raise ConnectionFailedError(
            f"CLAUDE_FORCE_ALLOW_REAL_CALLS=0 forbids a call to {shown_url(base_url)!r}; unset it, or point"
            " ANTHROPIC_BASE_URL at a simulator",
            should_retry=False,
        )


def _texts(stream: "anthropic.Stream[Any]", assembly: Assembly, request: "Request") -> Iterator[str]:
    """The stream's pieces of text. What their watcher raises is not ours to translate, so it happens outside.

    Raw events: the SDK would build a model of each, unchecked, for ten times the work.
    """
    with _billed(assembly), translated(request, stream.response.headers):
        for event in stream.raw_events(stream.response):
            if text := assembly.add(event.event, event.data):
                yield text


async def _texts_async(
    stream: "anthropic.AsyncStream[Any]", assembly: Assembly, request: "Request"
) -> AsyncGenerator[str]:
    with _billed(assembly), translated(request, stream.response.headers):
        async for event in stream.raw_events(stream.response):
            if text := assembly.add(event.event, event.data):
                yield text


@contextmanager
def _billed(assembly: Assembly) -> Iterator[None]:
    """An error leaves with the fact that the answer had begun; one after the answer's end is none at all."""
    try:
        yield
    except ApiError as error:
        if not assembly.is_complete:
            error.has_begun = assembly.has_begun
            raise


def _attempt_timeout(left_s: float) -> "anthropic.Timeout":
    """As long as the turn has, but never more than the SDK's own 5 s to connect: a lost packet deserves a retry."""
    import anthropic  # noqa: PLC0415 - see the module's docstring

    left_s = max(left_s, 0.001)
    return anthropic.Timeout(left_s, connect=min(left_s, 5.0))


def _deadline(timeout_s: float) -> "AbstractContextManager[None]":
    """See `deadline`. What is called inside has a client already, so it is no time for the SDK to be imported."""
    from claude_force.transports.deadline import deadline  # noqa: PLC0415 - the SDK has loaded what that needs

    return deadline(timeout_s)


def _too_late(seconds: float, *, has_begun: bool = False) -> TimedOutError:
    said = f"the answer was not complete after {seconds:.3g} s; raise the timeout or try later"
    return TimedOutError(said, has_begun=has_begun, may_have_arrived=True)
