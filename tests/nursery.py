"""Programs, forked from a process that has imported all they need: `nursery` in `conftest.py` says why, and starts it.

`nursery.py ADDRESS` waits at a socket. `nursery.py ADDRESS claude-force ARGUMENTS...`, or `-c CODE ARGUMENTS...` as for
Python, stands for the program: it hands arguments, folder, environment and standard streams to the process that is
forked for it, passes signals on, and ends as that one ends; killed, it takes that one along. What runs there is the
program as ever, up to Python's own end, but that its modules are there already and are not taken apart. Not handed on
are resource limits, closed streams and what the environment tells Python itself but for an encoding: tests of these
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


def serve(address: str) -> socket.socket:
    """Wait until somebody asks, or whoever started this is gone; in a fork for each, its line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b"ready\n")
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            line, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                return line
            line.close()
    sys.exit()


def become(line: socket.socket) -> None:
    """Fork once more: one stays and watches; the other one comes back, and is what was asked for."""
    _, streams, _, _ = socket.recv_fds(line, 1, 3)
    arguments, folder, environment = marshal.load(line.makefile("rb"))  # noqa: S302 - of our own other half
    alive, end = os.pipe()
    if child := os.fork():
        for file in (*streams, end):
            os.close(file)
        line.sendall(b"%d\n" % child)
        if alive not in select.select([line.fileno(), alive], [], [])[0]:
            os.kill(child, signal.SIGKILL)  # as it was done to the one that stands for it
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(BrokenPipeError):
            line.sendall(b"%d\n" % code)
        os._exit(0)
    for number, file in enumerate(streams):
        os.dup2(file, number)
        os.close(file)
    os.close(alive)
    line.close()
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
    standing = set(sys.modules)
    import atexit
    import gc
    import pkgutil
    from importlib import import_module

    import aiohttp  # noqa: F401
    import anthropic  # noqa: F401
    import coverage
    import dbos  # noqa: F401
    import genai_prices.data_snapshot  # noqa: F401
    import starlette.applications  # noqa: F401
    import uvicorn  # noqa: F401

    import claude_force

    for found in pkgutil.walk_packages(claude_force.__path__, "claude_force."):
        # One is the program, and the others import numpy, which starts threads: a fork would not get them.
        if not found.name.startswith(("claude_force.__main__", "claude_force.selection.")):
            import_module(found.name)

    def let_go() -> None:
        """Leave nothing to take apart at the end: touching all that is shared with the nursery took 0.1 s of CPU."""
        for name in set(sys.modules) - standing:
            del sys.modules[name]

    atexit.register(let_go)
    if measured := coverage.Coverage.current():
        measured.save()  # once, or each program would write down again what was run here
    gc.freeze()  # nor is it looked through for garbage
    become(serve(sys.argv[1]))
    if sys.argv[0] == "-c":
        exec(sys.argv.pop(1), {"__name__": "__main__"})  # noqa: S102 - as `python -c`
    else:
        from claude_force.cli import main

        main()
