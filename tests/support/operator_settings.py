"""All settings of the operators' command line, each command of which reads only a part."""

from console.settings import DatabaseAdminSettings, RedriveSettings, TlsSettings, TopologySettings


class OperatorSettings(RedriveSettings, TopologySettings, DatabaseAdminSettings, TlsSettings):
    """All settings of `orderctl`."""
