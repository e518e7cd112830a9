"""A mail server for developers: it delivers nothing, and shows every email on a page."""

import sys

from deploy.local.ports import Ports
from deploy.local.processes.health import answers
from deploy.local.processes.process import Process


def process(ports: Ports) -> Process:
    """Return the mail server, which keeps emails in memory only."""
    options = {"--smtp": ports.smtp_port, "--web": ports.mail_ui_port}
    arguments = (str(part) for option in options.items() for part in option)
    return Process(
        name="mail",
        command=(sys.executable, "-m", "deploy.local.mail_server", *arguments),
        check=answers(f"{url(ports)}/healthz"),
        ports={"SMTP_PORT": ports.smtp_port, "MAIL_UI_PORT": ports.mail_ui_port},
        url=url(ports),
    )


def url(ports: Ports) -> str:
    """Return the address of the page."""
    return f"http://127.0.0.1:{ports.mail_ui_port}"
