"""PROCESS: `python -m testkit.campaign` runs campaigns on private servers, and prints the verdicts.

It exits with status 1 if a campaign violates an invariant; the logs of that campaign are kept.
"""

import os
import shutil
import sys
from collections.abc import Generator, Iterable
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TextIO

import click

from deploy.local import REPOSITORY
from testkit.campaign import jobs as parallel
from testkit.campaign.campaign import Campaign, Plan, of_names
from testkit.campaign.planted_bugs import BUGS, REVEALING
from testkit.campaign.verdict import Verdict, never_reached, recovery_table, totals
from testkit.mail.mailbox import Mailbox
from testkit.processes.stack import Stack
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure, infrastructure
from testkit.servers.vhosts import fresh_vhost

#: Number of seeds within which a planted bug must be found.
_SEEDS = 5


@click.command()
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="The first.")
@click.option("--faults", default="", help="Names of faults, separated by commas; default: all.")
@click.option("--orders", default=250, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--bugs", is_flag=True, help="Require that the campaigns find each planted bug.")
@click.option(
    "--jobs",
    default=len(os.sched_getaffinity(0)),
    type=click.IntRange(1, 64),
    help="Campaigns that run at the same time.  [default: one for each processor]",
)
@click.option("--state", default=REPOSITORY / ".run-chaos", type=click.Path(path_type=Path))
def main(
    runs: int, seed: int, faults: str, orders: int, bugs: bool, jobs: int, state: Path
) -> None:
    """Run campaigns with the seeds from --seed on, and print a line for each."""
    try:
        names = of_names(faults)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--faults") from None
    state.mkdir(exist_ok=True)
    plan = Plan(seed=seed, orders=orders, names=names)
    output = _Output(sys.stdout, state, faults)
    # Servers report their start on standard output.
    with (state / "output").open("w") as log, redirect_stdout(log):
        is_good = output.bugs(plan) if bugs else output.campaigns(plan, runs, jobs)
    sys.exit(not is_good)


@dataclass(frozen=True)
class _Output:
    """Runs campaigns, and prints their verdicts to a file that is not redirected."""

    file: TextIO
    state: Path
    #: The value of `--faults`.
    faults: str

    def campaigns(self, plan: Plan, runs: int, jobs: int) -> bool:
        """Run a plan with several seeds; return whether no invariant was violated."""
        plans = [replace(plan, seed=number) for number in range(plan.seed, plan.seed + runs)]
        verdicts = []
        for verdict in parallel.verdicts(plans, partial(_run, self.state), jobs):
            verdicts.append(verdict)
            self._print(verdict.line())
            if verdict.violations:
                self._explain(verdict, plan.orders)
        for line in recovery_table(verdicts):
            self._print(line)
        self._print(f"never reached: {', '.join(never_reached(verdicts)) or 'nothing'}")
        self._print(totals(verdicts))
        return not any(verdict.violations for verdict in verdicts)

    def bugs(self, plan: Plan) -> bool:
        """Run campaigns with each planted bug; return whether each bug was found."""
        is_good = True
        for bug in BUGS:
            seeds = range(plan.seed, plan.seed + _SEEDS)
            plans = [replace(plan, seed=n, names=REVEALING[bug], bug=bug) for n in seeds]
            with closing(_run(self.state, plans)) as verdicts:
                found = next((each for each in verdicts if each.violations), None)
            if found:
                self._print(f"{bug}: found by seed {found.seed}: {found.violations[0]}")
                shutil.rmtree(_directory(self.state, found.seed))
            else:
                self._print(f"{bug}: not found by {_SEEDS} seeds")
                is_good = False
        return is_good

    def _explain(self, verdict: Verdict, orders: int) -> None:
        for violation in verdict.violations:
            self._print(f"  {violation}")
        chosen = f" FAULTS={self.faults}" if self.faults else ""
        self._print(f"  logs: {_directory(self.state, verdict.seed)}")
        self._print(f"  again: make chaos RUNS=1 SEED={verdict.seed} ORDERS={orders}{chosen}")

    def _print(self, line: str) -> None:
        click.echo(line, file=self.file)


def _run(state: Path, plans: Iterable[Plan], number: int = 0) -> Generator[Verdict, None, None]:
    """Yield the verdict on each plan, on servers that no earlier plan has restarted."""
    waiting = iter(plans)
    directory = state / f"servers-{number}"
    plan = next(waiting, None)
    while plan:
        # A killed database must not lose its committed data.
        with infrastructure(directory, durable=True) as servers:
            databases = Databases.prepare(servers)
            while plan and not servers.restarts:
                verdict = _run_one(plan, servers, databases, _directory(state, plan.seed))
                if verdict.violations:
                    shutil.copytree(directory / "logs", _directory(state, plan.seed) / "servers")
                yield verdict
                plan = next(waiting, None)


def _run_one(plan: Plan, servers: Infrastructure, databases: Databases, directory: Path) -> Verdict:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    with (
        databases.fresh() as database_of,
        fresh_vhost(servers) as vhost,
        Mailbox.running() as mailbox,
        Stack.on(servers, database_of, vhost, mailbox, directory) as stack,
    ):
        verdict = Campaign(plan, stack).run()
    if not verdict.violations:
        shutil.rmtree(directory)
    return verdict


def _directory(state: Path, seed: int) -> Path:
    return state / f"seed-{seed}"


if __name__ == "__main__":
    main()
