"""PROCESS: `python -m testkit.simulation` runs seeds in parallel, and prints those that fail.

It exits with status 1 if a seed violates an invariant, or if no seed has reached a situation.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from signal import SIGKILL

import click

from deploy.local import REPOSITORY
from eventbus.parent import exit_with
from testkit.simulation.database import SimulatedDatabase
from testkit.simulation.server import DatabaseServer, database_server
from testkit.simulation.simulation import run_seed
from testkit.simulation.verdict import Verdict, never_reached, totals

#: Number of seeds from which each situation is expected.
_ENOUGH = 20

#: Number of seeds that a process runs between two reports.
_TOGETHER = 5

#: The databases of this process, which runs one seed after the other.
_databases: dict[str, SimulatedDatabase] = {}


@click.command()
@click.option("--seeds", default=500, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="The first.")
@click.option(
    "--processes",
    default=len(os.sched_getaffinity(0)),
    type=click.IntRange(1, 64),
    help="Seeds that run at the same time.  [default: one for each processor]",
)
@click.option(
    "--state", default=REPOSITORY / ".run-chaos-simulation", type=click.Path(path_type=Path)
)
def main(seeds: int, seed: int, processes: int, state: Path) -> None:
    """Run the seeds from --seed on, and print a line for each that violates an invariant."""
    verdicts = []
    with database_server(state) as server, _pool(server, processes) as pool:
        for verdict in pool.map(_run, range(seed, seed + seeds), chunksize=_TOGETHER):
            verdicts.append(verdict)
            if verdict.problems:
                _explain(verdict)
    missing = never_reached(verdicts) if seeds >= _ENOUGH else []
    if missing:
        click.echo(f"never reached: {', '.join(missing)}")
    click.echo(totals(verdicts))
    sys.exit(bool(missing) or any(verdict.problems for verdict in verdicts))


@contextmanager
def _pool(server: DatabaseServer, processes: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(
        processes,
        # The processes have loaded all libraries.
        mp_context=get_context("fork"),
        initializer=_prepare,
        initargs=(server, os.getpid()),
    )
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(server: DatabaseServer, parent: int) -> None:
    exit_with(parent, SIGKILL)
    copies = server.copies(str(os.getpid()))
    _databases.update({name: SimulatedDatabase(url) for name, url in copies.items()})


def _run(seed: int) -> Verdict:
    return run_seed(_databases, seed)


def _explain(verdict: Verdict) -> None:
    click.echo(f"seed {verdict.seed} FAILED: {'; '.join(verdict.problems)}")
    click.echo(f"  again: make chaos SEEDS=1 SEED={verdict.seed}")


if __name__ == "__main__":
    main()
