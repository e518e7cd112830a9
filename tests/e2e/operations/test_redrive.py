"""Parked messages are redriven by a plan while orders are processed, even if its run is killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.local import REPOSITORY
from testkit.eventually import eventually
from testkit.mail.mailbox import Mailbox
from testkit.processes.operated import operated
from testkit.processes.orderctl import orderctl
from testkit.processes.stack import RETRY_TIERS, Stack
from testkit.programs.crashing.orderctl import STEPS
from testkit.programs.mended import INVENTORY_WORKER
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

#: Orders whose events are parked.
ORDERS = 1_000

Environment = dict[str, str]


@pytest.fixture
def env(migrated_env: Environment) -> Environment:
    """The environment of `orderctl` for the system."""
    return migrated_env | {"RETRY_TIERS": ",".join(map(str, RETRY_TIERS))}


@pytest.fixture
def shop(
    servers: Infrastructure,
    databases: Databases,
    env: Environment,
    vhost: Vhost,
    mailbox: Mailbox,
    tmp_path: Path,
) -> Iterator[Stack]:
    """A system whose inventory fails for every order until the file `$BUG` is removed."""
    with operated(servers, databases, env, vhost, mailbox, tmp_path) as stack:
        bug = tmp_path / "bug"
        bug.touch()
        # The tests redrive all events, which a worker that pauses its service would not park.
        stack.extra |= {"BUG": str(bug), "PARKING_BURST_LIMIT": "0"}
        stack.stock(TEA=10 * ORDERS)
        stack.start("inventory-worker", module=INVENTORY_WORKER)
        stack.start("api", "order-worker", "order-relay", "inventory-relay", "beat")
        yield stack


def place_and_park(shop: Stack, count: int) -> list[str]:
    """Place orders, and wait until all their events are parked."""
    orders = [shop.place(("TEA", 1)) for _ in range(count)]
    eventually(lambda: parked(shop, count), progress=lambda: shop.vhost.depth("inventory.dlq"))
    return orders


def parked(shop: Stack, count: int) -> None:
    assert shop.vhost.depth("inventory.dlq") == count


def fix(shop: Stack) -> None:
    Path(shop.extra["BUG"]).unlink()


def plan(env: Environment) -> str:
    made = orderctl(env, "parked", "plan", "inventory", "--exception", "KeyError", "--json")
    assert made.exit_code == 0, made.output
    return str(json.loads(made.stdout)["id"])


def run(env: Environment, plan_id: str, *options: str) -> tuple[int, str]:
    done = orderctl(env, "parked", "run", plan_id, *options)
    return done.exit_code, done.output


def attempts(shop: Stack) -> int:
    return shop.log("inventory-worker").count('"handler failed"')


def check_effects(shop: Stack, orders: list[str], pieces: int | None = None) -> None:
    """Check that each order is confirmed, and each event had one effect.

    `pieces` are the pieces that they hold, by default one for each.
    """
    for order_id in orders:
        assert shop.decided(order_id, within=120) == ("CONFIRMED", None)
    assert shop.reserved("TEA") == (pieces or len(orders))
    events = "SELECT count(*) FROM outbox WHERE type LIKE 'stock.reserved%'"
    assert shop.execute("inventory", events) == [len(orders)]
    inbox = "SELECT count(*) FROM inbox WHERE type LIKE 'order.created%'"
    assert shop.execute("inventory", inbox) == [len(orders)]


@pytest.mark.timeout(900)
def test_a_redrive_stops_while_the_bug_is_there_and_finishes_when_it_is_fixed(
    shop: Stack, env: Environment
) -> None:
    # Given many messages that a bug has parked
    orders = place_and_park(shop, ORDERS)
    (group,) = json.loads(orderctl(env, "parked", "groups", "--json").stdout)
    assert (group["count"], group["frame"]) == (
        ORDERS,
        "mended/inventory_worker.py:on_order_created",
    )
    plan_id, before = plan(env), attempts(shop)

    # When the plan runs with the bug in place
    status, output = run(env, plan_id)

    # Then it stops after one message and one attempt, with the failure, and all are parked
    assert status == 1
    assert f"plan {plan_id} stopped: 1 of 1 failed again, more than 10%: KeyError" in output
    assert attempts(shop) - before == 1
    eventually(lambda: parked(shop, ORDERS))

    # When it runs with the bug fixed
    fix(shop)
    status, output = run(env, plan_id, "--rate", "100")

    # Then it finishes in growing stages, and every order is right
    assert status == 0, output
    stages = [line.partition(":")[0] for line in output.splitlines()]
    assert stages[:3] == ["stage of 1", "stage of 5", "stage of 50"]
    assert f"plan {plan_id}: done; {ORDERS} handled" in output
    parked(shop, 0)
    check_effects(shop, orders)


@pytest.mark.timeout(900)
def test_a_redrive_that_is_killed_at_each_step_finishes(shop: Stack, env: Environment) -> None:
    # Given many messages that a bug, since fixed, has parked
    orders = place_and_park(shop, ORDERS // 10)
    plan_id = plan(env)
    fix(shop)

    # When the run is killed at each step
    for step in STEPS:
        call = "1" if step == "all handled, the plan not ended" else "3"
        command = (step, call, "parked", "run", plan_id)
        with started(env, "testkit.programs.crashing.orderctl", *command) as killed:
            output, _ = killed.communicate(timeout=120)
        assert killed.returncode == -signal.SIGKILL, (step, output)

    # Then the next run finishes, and every order is right
    status, output = run(env, plan_id)
    assert status == 0, output
    assert f"{len(orders)} handled" in output
    parked(shop, 0)
    check_effects(shop, orders)


@pytest.mark.timeout(900)
def test_a_second_operator_is_refused_and_can_pause_the_run(shop: Stack, env: Environment) -> None:
    # Given a slow run
    orders = place_and_park(shop, 30)
    plan_id = plan(env)
    fix(shop)
    with started(env, "console.orderctl", "parked", "run", plan_id, "--rate", "2") as slow:
        eventually(lambda: begun(env, plan_id), within=60)

        # When a second operator runs the same plan, or makes another one
        again = run(env, plan_id)
        another = orderctl(env, "parked", "plan", "inventory")

        # Then both are refused
        for status, output in (again, (another.exit_code, another.output)):
            assert status == 1
            assert "another command plans or redrives messages of inventory" in output

        # When the second operator pauses the run
        assert orderctl(env, "parked", "pause", plan_id).exit_code == 0
        output, _ = slow.communicate(timeout=60)

    # Then it ends, with messages left, and finishes when it is resumed
    assert (slow.returncode, f"plan {plan_id}: paused" in output) == (1, True), output
    assert shop.vhost.depth("inventory.dlq") > 0
    resumed = orderctl(env, "parked", "resume", plan_id)
    assert (resumed.exit_code, "30 handled" in resumed.output) == (0, True), resumed.output
    parked(shop, 0)
    check_effects(shop, orders)


@pytest.mark.timeout(900)
def test_an_edit_that_is_killed_halfway_has_one_effect(shop: Stack, env: Environment) -> None:
    # Given a message that a bug, since fixed, has parked
    (order_id,) = place_and_park(shop, 1)
    (message,) = json.loads(orderctl(env, "parked", "list", "inventory", "--json").stdout)
    fix(shop)

    # When its edit is killed after the copy was published, and before the original is removed
    edit = ("parked", "edit", "inventory", message["id"], "--set", "data.lines[0].quantity=2")
    more = ("--reason", "a test", "--redrive", "--yes")
    command = ("published, still parked", "1", *edit, *more)
    with started(env, "testkit.programs.crashing.orderctl", *command) as killed:
        output, _ = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, output

    # Then the edited copy is handled, and the original is still parked
    assert shop.decided(order_id, within=120) == ("CONFIRMED", None)
    assert shop.reserved("TEA") == 2
    eventually(lambda: parked(shop, 1))

    # When the original is redriven
    redriven = orderctl(env, "parked", "redrive", "inventory", "--all")
    assert redriven.exit_code == 0, redriven.output

    # Then it is dropped as a duplicate
    eventually(lambda: settled(shop))
    check_effects(shop, [order_id], pieces=2)
    history = orderctl(env, "parked", "history", "inventory", message["id"])
    assert [word for word in ("edited", "handled") if word not in history.stdout] == []


def settled(shop: Stack) -> None:
    assert shop.log("inventory-worker").count('"duplicate"') == 1


def begun(env: Environment, plan_id: str) -> None:
    document = json.loads(orderctl(env, "parked", "plans", plan_id, "--json").stdout)
    assert document["states"].get("handled")


@contextmanager
def started(env: Environment, module: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a module as its own session during the block."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
