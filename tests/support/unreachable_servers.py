"""Settings of a web console whose servers are all down."""

from typing import Any

import certifi

from testkit.processes.web_console import PASSWORD

SETTINGS: dict[str, Any] = {
    # Nothing listens on this port.
    "broker_admin_url": "https://127.0.0.1:9",
    "broker_port": 9,
    "broker_ca_file": certifi.where(),
    "broker_admin_user": "console",
    "broker_admin_password": "unknown",
    "database_port": 9,
    "database_ca_file": certifi.where(),
    "console_database_password": "unknown",
    "console_password": PASSWORD,
}
