"""PROCESS: granian serving a WSGI app under the edge's rules, `python -m common.http.server`.

granian's connections are tasks in Rust, so an idle connection, or a request that arrives slowly,
does not occupy a thread. A request occupies a thread from its last byte to its response. granian's
WSGI interface reads bodies in that thread without a limit, exposes the process's environment as
headers, and joins headers that must remain separate. This server therefore uses the RSGI interface,
which passes the headers on unchanged, without the event loop that granian puts between a request
and its thread.
"""

import gc
import os
import resource
import signal
import socket
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

from common.http import closing
from common.http.requests import Inline, Requests
from eventbus.parent import exit_with
from eventbus.settings.addresses import addresses
from eventbus.settings.base import Settings, load
from eventbus.telemetry.logs import configure_logging

#: Maximum number of open connections of a process, each of which costs a few kilobytes. Additional
#: connections wait until one is closed.
_CONNECTIONS = 2_000

#: Maximum number of open files of a process, in addition to its connections.
_FILES = 500

#: Seconds after which a connection without a complete request head is closed, whether it is new,
#: slow or kept alive, and a connection whose client does not read its response. The time is longer
#: than the idle timeout of common proxies (60), which therefore close first, so no request arrives
#: on a connection that is being closed.
IDLE = 75

#: Approximate limit of a request's head, in bytes.
_HEAD_LIMIT = 32 * 1024

#: Seconds that a stopping process has to complete its current requests.
_GRACE = 25

#: Seconds for which a stopping process still accepts requests, for clients that are sending one,
#: and announces in each response that the connection will be closed.
_LINGER = 2.0

#: The server, whose declared type is wrong.
_WORKER: Any = RSGIWorker


@click.command()
@click.option("--bind", required=True, metavar="ADDRESS:PORT")
@click.option("--threads", default=8, show_default=True, type=click.IntRange(1))
@click.argument("module")
def main(bind: str, threads: int, module: str) -> None:
    """Serve the app of a module's `create_app`, in one process, until a signal terminates it."""
    configure_logging(load(Settings).log_level)
    # The module is imported before the fork, so that each process starts with it.
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
    """Serve the app that a module's `create_app` returns until a signal terminates it.

    `threads` is the number of requests that a process can handle at the same time.
    """
    address, port = _address(bind)
    server = Server(
        module,
        # With `Interfaces.RSGI`, granian would allow only one thread.
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
        # granian's messages are logged as the project's own lines, without the warning about the
        # number of threads, which is intended.
        log_level=LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {"propagate": True}}},
    )
    # Loaded objects are exempt from garbage collection, whose marks would copy their pages to each
    # process.
    server.on_startup(gc.freeze)
    server.serve(_work, target_loader=partial(_app, os.getpid()), wrap_loader=True)


def _app(parent: int, module: str) -> Flask:
    """Return the app of this process, which exits with its parent."""
    exit_with(parent, signal.SIGTERM)
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
    """Serve in this process, like granian's function for WSGI, except for the interface."""
    _allow_files()
    specification, listening = sock
    if listening is None:
        # granian's worker would listen by itself, and would not return the socket.
        listening = specification.build()
    _limit_writes(listening, http1_settings.header_read_timeout)
    worker = _WORKER(
        worker_id,
        (None, listening),
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
    serve = getattr(worker, WORKERS_METHODS[runtime_mode][listening.is_uds()])
    serve(requests, loop, stopping)
    ended.wait()
    closing.end(app)


def _stopping(requests: Requests) -> WorkerSignal:
    """Return the event that a signal sets, after `_LINGER` seconds."""
    stopping = WorkerSignal()

    def stop(*_: object) -> None:
        if not requests.ends:
            requests.end()
            linger = Timer(_LINGER, stopping.set)
            linger.daemon = True
            linger.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def _limit_writes(listening: Any, milliseconds: int) -> None:
    """Close each connection whose client has read nothing of its response for this time.

    The server would wait indefinitely: its other limit is on the head of the next request. A
    connection inherits the option from the listening socket.
    """
    if not listening.is_uds():
        with socket.socket(fileno=os.dup(listening.get_fd())) as duplicate:
            duplicate.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def _allow_files() -> None:
    """Raise the limit of open files as the connections require, as far as permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    required = _CONNECTIONS + _FILES
    if soft != resource.RLIM_INFINITY and soft < required:
        limit = required if hard == resource.RLIM_INFINITY else min(required, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


if __name__ == "__main__":
    main()
