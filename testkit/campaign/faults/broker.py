"""Faults of the broker: it is killed, shut down, suspended, or short of memory or disk space."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from testkit.campaign.fault import ServerFault
from testkit.campaign.system import BROKER


class BrokerKill(ServerFault):
    """The broker is killed, and starts again."""

    name = "broker-kill"
    server = BROKER
    hold = (1.0, 4.0)

    @contextmanager
    def outage(self) -> Iterator[None]:
        self.stack.servers.stop_broker()
        try:
            yield
        finally:
            self.stack.servers.start_broker()


class BrokerRestart(ServerFault):
    """The broker is shut down cleanly, and starts again."""

    name = "broker-restart"
    server = BROKER
    hold = (1.0, 4.0)

    def outage(self) -> AbstractContextManager[object]:
        return self.stack.servers.broker_shut_down()


class BrokerPause(ServerFault):
    """The broker does not respond for a while, but its connections remain."""

    name = "broker-pause"
    server = BROKER
    hold = (3.0, 8.0)

    def outage(self) -> AbstractContextManager[object]:
        return self.stack.servers.broker_suspended()


class MemoryAlarm(ServerFault):
    """The broker is short of memory and accepts no messages."""

    name = "memory-alarm"
    server = BROKER

    def outage(self) -> AbstractContextManager[object]:
        limits = "set_vm_memory_high_watermark", "absolute 1MB", "absolute 1GB"
        return self.stack.servers.limited(*limits)


class DiskAlarm(ServerFault):
    """The broker is short of disk space and accepts no messages."""

    name = "disk-alarm"
    server = BROKER

    def outage(self) -> AbstractContextManager[object]:
        return self.stack.servers.limited("set_disk_free_limit", "1000000GB", "500MB")
