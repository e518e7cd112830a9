"""Campaigns that run at the same time, each in its own process and on its own servers."""

import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from eventbus.parent import exit_with
from testkit.campaign.campaign import Plan
from testkit.campaign.verdict import Verdict
from testkit.servers.workers import become

#: A function that runs plans one after the other, in the process with this number.
Work = Callable[[Iterator[Plan], int], Iterable[Verdict]]


def verdicts(plans: Iterable[Plan], work: Work, jobs: int) -> Generator[Verdict, None, None]:
    """Yield the verdict on each plan as soon as it is known. `jobs` plans run at the same time.

    Raises `RuntimeError` if one of the processes has exited.
    """
    waiting = list(plans)
    context = get_context("fork")
    running: list[Connection] = []
    for number in range(min(jobs, len(waiting))):
        near, far = context.Pipe()
        context.Process(target=_serve, args=(far, work, number, jobs, os.getpid())).start()
        far.close()
        near.send(waiting.pop(0))
        running.append(near)
    while running:
        for each in wait(running):
            assert isinstance(each, Connection)
            try:
                yield each.recv()
            except EOFError:
                raise RuntimeError("a process that runs campaigns has exited") from None
            if waiting:
                each.send(waiting.pop(0))
            else:
                each.send(None)
                running.remove(each)


def _serve(plans: Connection, work: Work, number: int, jobs: int, parent: int) -> None:
    exit_with(parent, signal.SIGKILL)
    become(number, jobs)
    for verdict in work(iter(plans.recv, None), number):
        plans.send(verdict)
