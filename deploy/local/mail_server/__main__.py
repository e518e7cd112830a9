"""PROCESS: accepts emails over SMTP and shows them, `python -m deploy.local.mail_server --help`.

Both servers listen on 127.0.0.1 only, and require no password.
"""

import logging
import socket

import click
from werkzeug.serving import make_server

from deploy.local.mail_server.mailbox import Mailbox
from deploy.local.mail_server.page import create_app
from deploy.local.mail_server.smtp import Server

HOST = "127.0.0.1"


@click.command()
@click.option("--smtp", required=True, type=int, help="Port that accepts emails.")
@click.option("--web", required=True, type=int, help="Port of the page.")
def main(smtp: int, web: int) -> None:
    """Accept every email, deliver none, and show the newest ones on a page."""
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    mailbox = Mailbox()
    try:
        Server(mailbox, HOST, smtp)
        # If the port is in use, werkzeug would exit with its own message.
        listener = socket.create_server((HOST, web))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {HOST}: {error}") from error
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    app = create_app(mailbox)
    make_server(HOST, web, app, threaded=True, fd=listener.fileno()).serve_forever()


if __name__ == "__main__":
    main()
