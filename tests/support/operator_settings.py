"""All settings of the operators' command line, each command of which reads only a part."""

from console.settings import AuditSettings, RepairSettings, TlsSettings, TopologySettings


class OperatorSettings(RepairSettings, TopologySettings, AuditSettings, TlsSettings):
    """All settings of `orderctl`."""
