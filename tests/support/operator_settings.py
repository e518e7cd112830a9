"""All settings of the operators' command line, of which each command reads only a part."""

from console.commands.execution.read_only import ReadOnlySettings
from console.settings import AuditSettings, RepairSettings, TlsSettings, TopologySettings


class OperatorSettings(
    RepairSettings, TopologySettings, AuditSettings, TlsSettings, ReadOnlySettings
):
    """All settings of `orderctl`."""
