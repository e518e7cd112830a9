"""All settings of the operators' command line, each command of which reads only a part."""

from console.settings import DatabaseAdminSettings, RepairSettings, TlsSettings, TopologySettings


class OperatorSettings(RepairSettings, TopologySettings, DatabaseAdminSettings, TlsSettings):
    """All settings of `orderctl`."""
