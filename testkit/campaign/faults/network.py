"""Faults of the network between a program and the broker, by a proxy."""

from testkit.campaign.fault import ProgramFault
from testkit.campaign.system import CONNECTED


class _ProxyFault(ProgramFault):
    candidates = tuple(name for name in CONNECTED if name != "beat")

    def prepare(self) -> None:
        self.proxy = self.system.proxied(self.detail)


class HalfOpen(_ProxyFault):
    """No data passes, and the connections are cut only later, so neither side detects it."""

    name = "half-open"
    hold = (4.0, 8.0)

    def inject(self) -> None:
        self.proxy.hold_requests()
        self.proxy.hold_responses()

    def heal(self) -> None:
        self.proxy.cut()
        self.proxy.release()


class Delay(_ProxyFault):
    """The broker's data arrives late: confirms, deliveries and heartbeats."""

    name = "delay"

    def inject(self) -> None:
        self.proxy.hold_responses()

    def heal(self) -> None:
        self.proxy.release()
