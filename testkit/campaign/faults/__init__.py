"""The registry of faults, by the names that `FAULTS=` accepts."""

from testkit.campaign.fault import Fault
from testkit.campaign.faults import broker, databases, messages, network, processes, surroundings

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        processes.Kill,
        processes.Terminate,
        processes.Suspend,
        processes.KillChild,
        processes.SuspendChild,
        processes.Hang,
        processes.Connections,
        processes.RollingRestart,
        processes.TwoRelays,
        processes.TwoBeats,
        broker.BrokerKill,
        broker.BrokerRestart,
        broker.BrokerPause,
        broker.MemoryAlarm,
        broker.DiskAlarm,
        databases.DatabaseKill,
        databases.DatabaseRestart,
        databases.ReadOnly,
        databases.NoConnections,
        network.HalfOpen,
        network.Delay,
        surroundings.ClockStep,
        surroundings.MailRefused,
        surroundings.MailSlow,
        messages.Resend,
        messages.Purge,
        messages.Unbind,
        messages.FullQueue,
        messages.Hostile,
        messages.Poison,
    )
}
