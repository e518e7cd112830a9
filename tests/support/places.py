"""The places in which a test searches for data of a customer, as texts by the name of the place."""

import json
from collections.abc import Iterable

import httpx
from sqlalchemy import text

from deploy.local.processes.programs import PROGRAMS
from deploy.local.servers import credentials
from eventbus.database.db import transaction
from testkit.processes.stack import Stack

#: The service, the table and the name of a column.
Column = tuple[str, str, str]

_COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'
"""


def logs(stack: Stack) -> dict[str, str]:
    """Return the log of every program, of RabbitMQ and of PostgreSQL."""
    servers = stack.servers.secrets_dir.parent / "logs"
    files = [*stack.directory.glob("*.log"), *servers.glob("*.log")]
    programs = {f"{program.name}.log" for program in PROGRAMS if program.is_installed}
    assert programs | {"rabbitmq.log", "postgres.log"} <= {file.name for file in files}
    return {f"log {file.name}": file.read_text(errors="replace") for file in files}


def metrics(stack: Stack) -> dict[str, str]:
    """Return the metrics page of every program that has one."""
    ports = stack.metrics_ports | {"api": stack.ports.api_port}
    if stack.is_running("exporter"):
        ports["exporter"] = stack.ports.exporter_port
    pages = {
        name: httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).raise_for_status().text
        for name, port in ports.items()
    }
    pages["flower"] = _flower(stack, "/metrics").text
    return {f"metrics of {name}": page for name, page in pages.items()}


def task_events(stack: Stack) -> dict[str, str]:
    """Return the tasks that Flower has collected from task events, each as JSON."""
    tasks = _flower(stack, "/api/tasks").json()
    return {f"task {task_id}": json.dumps(task) for task_id, task in tasks.items()}


def headers(stack: Stack) -> dict[str, str]:
    """Return the headers and the properties of all messages that are ready in a queue."""
    queues = stack.vhost.request("GET", f"/queues/{stack.vhost.name}").json()
    return {
        f"message {number} in {queue['name']}": f"{message.headers} {message.properties}"
        for queue in queues
        # The others are a stream, and the exclusive queues of Flower and the exporter.
        if queue["durable"] and queue["type"] != "stream"
        for number, message in enumerate(stack.vhost.messages(queue["name"]))
    }


def columns(stack: Stack, words: Iterable[str]) -> set[Column]:
    """Return every column of a database, the span store's included, that contains a word."""
    # Bytes are shown in hexadecimal.
    parts = [part for word in words for part in (word, word.encode().hex())]
    matching = set()
    for service in stack.databases:
        with transaction(stack.sessions(service)) as session:
            for table, column in session.execute(text(_COLUMNS)).all():
                condition = " OR ".join(f"\"{column}\"::text ILIKE '%{part}%'" for part in parts)
                rows = text(f'SELECT count(*) FROM "{table}" WHERE {condition}')
                if session.scalar(rows):
                    matching.add((service, table, column))
    return matching


def _flower(stack: Stack, path: str) -> httpx.Response:
    password = (stack.servers.secrets_dir / credentials.FLOWER).read_text().strip()
    url = f"http://127.0.0.1:{stack.ports.flower_port}{path}"
    return httpx.get(url, auth=("operator", password), timeout=60).raise_for_status()
