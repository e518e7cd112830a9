"""The order API on a port of this machine, in a thread of the test."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from flask import Flask
from werkzeug.serving import make_server

from common.kombu_topology import ORDER
from console.settings import DatabaseSettings
from order_app.app import create_app
from order_app.settings import ApiSettings
from order_app.storage.models import db


@contextmanager
def served_api(settings: DatabaseSettings) -> Iterator[str]:
    """Serve the API over the order service's database, and yield its address."""
    user, password = settings.login(ORDER.name)
    app = create_app(
        ApiSettings(
            database_host=settings.database_host,
            database_port=settings.database_port,
            database_name=settings.database_name(ORDER.name),
            database_user=user,
            database_password=password,
            database_ca_file=settings.database_ca_file,
        )
    )
    with served(app) as url:
        yield url
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """Serve an app, and yield its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
