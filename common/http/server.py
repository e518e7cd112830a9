"""PROCESS: a WSGI app over HTTP, `python -m common.http.server`: granian's, with the edge's rules.

granian's connections are tasks in Rust: one that is idle, or whose request arrives slowly, costs no
thread. A request has a thread from its last byte to its answer. granian's own WSGI interface reads
bodies in the thread, without a limit, shows the process's environment as headers, and joins what
must be kept apart. So this is its RSGI interface, which shows the headers as they came, and without
the event loop that granian would have between a request and its thread.
"""

import ctypes
import gc
import os
import resource
import signal
from functools import partial
from importlib import import_module
from threading import Event, Timer
from typing import Any

import click
from flask import Flask
from granian._granian import RSGIWorker, WorkerSignal
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server
from granian.server.common import WORKERS_METHODS
from granian.server.mp import WorkerProcess

from common.http.requests import Inline, Requests
from eventbus.settings.addresses import addresses
from eventbus.settings.base import Settings, load
from eventbus.telemetry.logs import configure_logging

#: Open connections of a process; a further one waits until another is closed. Each costs some
#: kilobytes.
_CONNECTIONS = 2_000

#: Files that a process has open beside its connections.
_FILES = 500

#: Seconds after which a connection without a whole head of a request is closed: a new one, a slow
#: one, and one that is kept alive. Longer than the usual proxies keep theirs (60), which therefore
#: close them first: a request never meets a connection that ends at that moment.
IDLE = 75

#: Bytes of a request's head, about.
_HEAD_LIMIT = 32 * 1024

#: Seconds for which a process that is told to end goes on with what is under way.
_GRACE = 25

#: Seconds for which it still takes requests, and says with each answer that the connection ends:
#: for clients that are sending one.
_LINGER = 2.0

#: Of Linux's <sys/prctl.h>: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1

#: Its type is not told right.
_WORKER: Any = RSGIWorker


@click.command()
@click.option("--bind", required=True, metavar="ADDRESS:PORT")
@click.option("--threads", default=8, show_default=True, type=click.IntRange(1))
@click.argument("module")
def main(bind: str, threads: int, module: str) -> None:
    """Serve what a module's `create_app` returns, in one process, until a signal ends it."""
    configure_logging(load(Settings).log_level)
    # Before the fork: the process has it all when it starts.
    import_module(module)
    serve(module, bind=bind, processes=1, threads=threads)


def _address(bind: str) -> tuple[str, int]:
    try:
        ((address, port),) = addresses(bind, 0)
    except ValueError:
        problem = f"{bind}: must be HOST:PORT or [IPV6]:PORT"
        raise click.BadParameter(problem, param_hint="--bind") from None
    return address, port


def serve(module: str, *, bind: str, processes: int, threads: int, idle: int = IDLE) -> None:
    """Serve what a module's `create_app` returns until a signal ends it.

    `threads` is the most requests of one process that are being answered at the same time.
    """
    address, port = _address(bind)
    server = Server(
        module,
        # With RSGI's name it would allow one thread only.
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        address=address,
        port=port,
        workers=processes,
        blocking_threads=threads,
        backpressure=_CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=idle * 1000, max_buffer_size=_HEAD_LIMIT),
        websockets=False,
        respawn_failed_workers=True,
        workers_kill_timeout=_GRACE,
        # Into our own lines. It would warn of the number of threads, which is meant.
        log_level=LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {"propagate": True}}},
    )
    # What is loaded stays out of the collector's reach, whose marks would copy its pages.
    server.on_startup(gc.freeze)
    server.serve(_work, target_loader=partial(_app, os.getpid()), wrap_loader=True)


def _app(parent: int, module: str) -> Flask:
    """Return the app of this process, which ends with its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit("the server has ended")
    app: Flask = import_module(module).create_app()
    return app


@WorkerProcess.wrap_target  # type: ignore[untyped-decorator]
def _work(
    worker_id: int,
    app: Flask,
    sock: Any,
    ipc: Any,
    _loop: Any,
    runtime_mode: Any,
    runtime_threads: int,
    runtime_blocking_threads: int | None,
    blocking_threads: int,
    blocking_threads_idle_timeout: int,
    backpressure: int,
    _task: Any,
    http_mode: Any,
    http1_settings: Any,
    http2_settings: Any,
    websockets: bool,
    static_path: Any,
    _access_log: Any,
    ssl_context: tuple[Any, ...],
    _scope: Any,
    metrics: Any,
) -> None:
    """Serve in this process: as granian's own function for WSGI, but for the interface."""
    _allow_files()
    worker = _WORKER(
        worker_id,
        sock,
        ipc,
        runtime_threads,
        runtime_blocking_threads,
        blocking_threads,
        blocking_threads_idle_timeout,
        backpressure,
        http_mode,
        http1_settings,
        http2_settings,
        websockets,
        static_path,
        *ssl_context,
        metrics,
    )
    loop = Inline()
    requests = Requests(loop, app, None, None, None)
    requests.watch()
    ended = Event()
    stopping = _stopping(requests)
    stopping.add_cb(ended.set)
    listening = sock[0] or sock[1]
    serve = getattr(worker, WORKERS_METHODS[runtime_mode][listening.is_uds()])
    serve(requests, loop, stopping)
    ended.wait()


def _stopping(requests: Requests) -> WorkerSignal:
    """Return what a signal sets, after a moment in which clients are told."""
    stopping = WorkerSignal()

    def stop(*_: object) -> None:
        if not requests.ends:
            requests.ends = True
            linger = Timer(_LINGER, stopping.set)
            linger.daemon = True
            linger.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def _allow_files() -> None:
    """Let this process have as many open files as its connections need, if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS + _FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    main()
