"""Programs, forked from a process that has imported all they need: `nursery` in `conftest.py` says why, and starts it.

`nursery.py ADDRESS` waits at a socket. `nursery.py ADDRESS claude-force ARGUMENTS...`, or `-c CODE ARGUMENTS...` as for
Python, stands for the program: it hands arguments, folder, environment and standard streams to the process that is
forked for it, passes signals on, and ends as that one ends; killed, it takes that one along. What runs there is the
program as ever, up to what is done at exit, but that its modules are there already and are not taken apart. Not handed
on are resource limits, closed streams and what the environment tells Python itself but for an encoding: tests of these
start Python.
"""

import marshal  # which costs nothing to import, as `json` would
import os
import select
import signal
import socket
import sys
from contextlib import suppress

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(address: str, arguments: list[str]) -> int:
    """Have the program run; its exit code."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        socket.send_fds(line, [b"!"], [0, 1, 2])
        folder = os.getcwd()  # noqa: PTH109 - pathlib takes longer to import than the rest of this
        line.sendall(marshal.dumps([arguments, folder, dict(os.environ)]))
        said = line.makefile()
        child = int(said.readline())
        # By way of a pipe: a signal that comes in the moment before a blocking read would be seen after its end only.
        arrived, arrives = os.pipe()
        os.set_blocking(arrives, False)
        signal.set_wakeup_fd(arrives)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        while line.fileno() not in select.select([line.fileno(), arrived], [], [])[0]:
            for sent in os.read(arrived, 64):
                os.kill(child, sent)
        code = int(said.readline())
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


Asked = tuple[list[int], list[str], str, dict[str, str]]
"""Standard streams, arguments, folder and environment."""


def serve(address: str) -> Asked:
    """Wait until somebody asks, or whoever started this is gone; in a fork for each, what it is to be.

    Who has asked is told the program's number, and then how it ended.
    """
    woken, wakes = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    running: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"ready\n")
        while sys.stdin not in (ready := select.select([listener, sys.stdin, woken, *running.values()], [], [])[0]):
            if listener in ready:
                line, _ = listener.accept()
                _, streams, _, _ = socket.recv_fds(line, 1, 3)
                asked = (streams, *marshal.load(line.makefile("rb")))  # noqa: S302 - of our own other half
                if not (child := os.fork()):
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                    for file in (woken, wakes, line.detach(), *(other.detach() for other in running.values())):
                        os.close(file)
                    return asked
                for file in streams:
                    os.close(file)
                running[child] = line
                tell(line, child)
            with suppress(BlockingIOError):
                os.read(woken, 512)
            for child, line in list(running.items()):
                if line in ready:  # which says nothing more: as it was done to the one that stands for it
                    os.kill(child, signal.SIGKILL)
                ended, status = os.waitpid(child, 0 if line in ready else os.WNOHANG)
                if ended:
                    tell(line, os.waitstatus_to_exitcode(status))
                    running.pop(child).close()
    sys.exit()


def tell(line: socket.socket, number: int) -> None:
    """Say a number to who may be gone."""
    with suppress(BrokenPipeError):
        line.sendall(b"%d\n" % number)


def become(asked: Asked) -> None:
    """Be that."""
    streams, arguments, folder, environment = asked
    for number, file in enumerate(streams):
        os.dup2(file, number)
        os.close(file)
    # New ones, as Python makes them at its start: whether a stream can seek or is a terminal is found out only then.
    for number, (name, mode, buffering) in enumerate((("stdin", "r", -1), ("stdout", "w", -1), ("stderr", "w", 1))):
        encoding = environment.get("PYTHONIOENCODING")
        stream = open(number, mode, buffering, encoding, closefd=False)  # noqa: SIM115 - it stays open
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)  # which holds it for who lets go of it, as our own command may
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    sys.path[0] = ""  # as of `python -m`, and not the folder of this file


if __name__ == "__main__":
    if sys.argv[2:]:
        sys.exit(run(sys.argv[1], sys.argv[2:]))
    import atexit
    import gc
    import pkgutil
    from importlib import import_module

    code: object = None

    def leave() -> None:
        """End before Python takes all apart: to touch what is shared with the nursery costs more than a program."""
        if isinstance(code, int):
            try:
                for stream in filter(None, (sys.stdout, sys.stderr)):  # which our own command lets go of
                    stream.flush()
            except (OSError, ValueError):  # then Python says so
                return
            if measured:  # which would write it down after this
                measured.stop()
                measured.save()
            os._exit(code)

    atexit.register(leave)  # first of all, so that it is the last to be called

    import aiohttp  # noqa: F401
    import anthropic  # noqa: F401
    import coverage
    import dbos  # noqa: F401
    import platformdirs  # noqa: F401
    import redis.asyncio  # noqa: F401
    import starlette.applications  # noqa: F401
    import uvicorn  # noqa: F401
    from genai_prices.data_snapshot import get_snapshot
    from opentelemetry import propagate  # noqa: F401

    import claude_force

    for found in pkgutil.walk_packages(claude_force.__path__, "claude_force."):
        # One is the program, and the others import numpy, which starts threads: a fork would not get them.
        if not found.name.startswith(("claude_force.__main__", "claude_force.selection.")):
            import_module(found.name)
    get_snapshot()  # the prices, which are 30,000 lines of Python
    if measured := coverage.Coverage.current():
        measured.save()  # once, or each program would write down again what was run here
    gc.freeze()  # nor is it looked through for garbage
    become(serve(sys.argv[1]))
    try:
        if sys.argv[0] == "-c":
            exec(sys.argv.pop(1), {"__name__": "__main__"})  # noqa: S102 - as `python -c`
        else:
            from claude_force.cli import main

            main()
        code = 0
    except SystemExit as error:
        code = error.code or 0
        raise
