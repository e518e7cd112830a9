"""The commands behind `make up`, `down`, `status`, `logs`, `reset` and `env`."""

import os
import shlex
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import timedelta

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.local import ENV_FILE, REPOSITORY, mail_server, sample, stack
from deploy.local.ports import Ports, configured_ports
from deploy.local.problem import Problem, interruptible
from deploy.local.processes import programs
from deploy.local.processes.parts import configured_division
from deploy.local.processes.process import Process
from deploy.local.processes.supervision import Report, Stopping
from deploy.local.processes.usage import Usage, usage
from deploy.local.processes.watch import ailment
from deploy.local.progress import step
from deploy.local.servers import broker, certificates, credentials, prometheus
from deploy.local.state import StateDirectory, create_state, delete_state, only_one, open_state

STATE = REPOSITORY / ".run"


@click.group(context_settings={"max_content_width": 100})
def main() -> None:
    """Run the order system on this machine."""


@main.command()
def up() -> None:
    """Start everything that is not running and wait until all of it is healthy."""
    ports = configured_ports(ENV_FILE)
    division = configured_division(ENV_FILE)
    state = create_state(STATE)
    advice = "make up continues from here, make down stops what has started"
    with interruptible(advice), only_one(state):
        stack.prepare(state, ports, division)
        run = stack.describe(state, ports)
        stack.up(run)
        new_key = sample.make_api_key(state)
        api_key = credentials.read(state.secrets, credentials.API_KEY)
        if not state.complete.exists():
            with step("importing sample stock"):
                sample.import_stock(state)
            with step("placing a sample order"):
                order = sample.place_order(programs.api_url(ports), api_key, state.log("api"))
            state.complete.touch()
            click.echo(f"\nThe sample order, at {programs.api_url(ports)}/orders/{order['id']}:")
            Console().print_json(data=order)
    click.echo("\nEverything is running:")
    for process in run.processes:
        if process.url:
            click.echo(f"  {process.name:<10} {process.url}")
    click.echo("\nThe user of the console and of Flower is operator, with the passwords in")
    for name in (credentials.CONSOLE, credentials.FLOWER):
        click.echo(f"  {state.secrets / name}")
    if new_key:
        click.echo(f"\nYour API key, shown only once (make env also prints it):\n  {api_key}")
        click.echo("For another key: .venv/bin/orderctl keys create NAME --scope orders:read")
    click.echo('\nmake status | logs | down, and for a shell: eval "$(make -s env)"')


@main.command()
def down() -> None:
    """Stop everything that `up` has started."""
    state = open_state(STATE)
    if state is None:
        click.echo("Nothing is running.")
        return
    with only_one(state), step("stopping everything"):
        stopped = stack.down(state)
    click.echo(f"{stopped} processes stopped." if stopped else "Nothing was running.")


@main.command()
def reset() -> None:
    """Stop everything and delete all data, logs and secrets."""
    with ExitStack() as locked:
        if state := open_state(STATE):
            locked.enter_context(only_one(state))
            with step("stopping everything"):
                stack.down(state)
        with step("deleting all data"):
            delete_state(STATE)


@main.command()
@click.option(
    "--over",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds over which CPU is measured.",
)
@click.pass_context
def status(context: click.Context, over: float) -> None:
    """Show each process; exit with status 1 if one of them is not healthy."""
    state = _existing_state()
    run = stack.describe(state, _chosen_ports(state))
    try:
        reports = run.supervision.reports()
    except Stopping as stopping:
        click.echo(stopping.format_message())
        context.exit(1)
    before = _usages(reports)
    time.sleep(over)
    after = _usages(reports)
    table = Table(box=None, pad_edge=False)
    for column in ("process", "state", "pid", "uptime", "cpu", "memory", "health", "url"):
        table.add_column(column, justify="right" if column in ("cpu", "memory") else "left")
    all_healthy = True
    for process in run.processes:
        report = reports.get(process.name)
        problem = ailment(process, report)
        all_healthy &= problem is None
        table.add_row(
            process.name,
            report.state.lower() if report else "-",
            str(report.pid) if report and report.pid else "-",
            str(timedelta(seconds=report.uptime)) if report and report.runs else "-",
            *_cells([process.name], before, after, over),
            _health(problem, process),
            process.url,
        )
    for title, group in (
        (stack.APPLICATION, run.application),
        (stack.INFRASTRUCTURE, run.infrastructure),
    ):
        cells = _cells([process.name for process in group], before, after, over)
        table.add_row(f"[bold]{title}[/]", "", "", "", *cells, "", "")
    # Without a terminal, lines are not cut: the reader is a script or a file.
    terminal = Console()
    Console(width=None if terminal.is_terminal else 200).print(table)
    context.exit(0 if all_healthy else 1)


def _health(problem: str | None, process: Process) -> Text:
    # The text is not markup, because a problem may contain brackets.
    if problem:
        return Text(problem, style="red")
    if remark := process.remark():
        return Text(f"healthy, {remark}", style="yellow")
    return Text("healthy", style="green")


@main.command()
@click.argument("process", required=False)
def logs(process: str | None) -> None:
    """Follow the log of one process, or all logs."""
    state = _existing_state()
    known = sorted(path.stem for path in state.logs.glob("*.log"))
    if process and process not in known:
        raise Problem(f"{process} has no log; these have one: {', '.join(known)}")
    files = [str(state.log(name)) for name in ([process] if process else known)]
    tail = "/usr/bin/tail"
    os.execv(tail, [tail, "-n", "50" if process else "5", "-F", *files])  # noqa: S606


@main.command()
def env() -> None:
    """Print the addresses and keys of this run as `export` lines."""
    state = _existing_state()
    ports = _chosen_ports(state)
    password = credentials.read(state.secrets, credentials.DEPLOYER)
    values = {
        "ORDERS_URL": programs.api_url(ports),
        "ORDERS_API_KEY": credentials.read(state.secrets, credentials.API_KEY),
        "ORDERS_BROKER_ADMIN_URL": broker.management_url(ports).replace(
            "//", f"//{broker.DEPLOYER}:{password}@"
        ),
        "ORDERS_CONSOLE_URL": programs.console_url(ports).replace(
            "//", f"//operator:{credentials.read(state.secrets, credentials.CONSOLE)}@"
        ),
        "ORDERS_DATABASE_PORT": str(ports.postgres_port),
        "ORDERS_CA_FILE": str(certificates.ca_file(state)),
        "ORDERS_MAIL_URL": mail_server.url(ports),
        "ORDERS_PROMETHEUS_URL": prometheus.url(ports),
        "ORDERS_FLOWER_URL": programs.flower_url(ports).replace(
            "//", f"//operator:{credentials.read(state.secrets, credentials.FLOWER)}@"
        ),
    }
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _usages(reports: Mapping[str, Report]) -> dict[str, Usage]:
    return {name: usage(report.pid) for name, report in reports.items() if report.pid}


def _cells(
    names: Iterable[str], before: Mapping[str, Usage], after: Mapping[str, Usage], seconds: float
) -> tuple[str, str]:
    """Return the CPU, in hundredths of one core, and the memory of some processes together."""
    running = [name for name in names if name in after]
    if not running:
        return "-", "-"
    cpu = sum(after[name].cpu - before[name].cpu for name in running) / seconds
    memory = sum(after[name].memory for name in running)
    return f"{100 * cpu:.1f} %", f"{memory / 1e6:.0f} MB"


def _chosen_ports(state: StateDirectory) -> Ports:
    try:
        return Ports.model_validate_json(state.ports.read_text())
    except FileNotFoundError:
        return configured_ports(ENV_FILE)


def _existing_state() -> StateDirectory:
    if state := open_state(STATE):
        return state
    raise Problem("nothing is running here; start it with: make up")


if __name__ == "__main__":
    main(prog_name="deploy.local")
