"""Logs: JSON lines on standard output, one line for each outcome."""

import json
import logging
import logging.config
import os
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
from celery.app.log import Logging

from eventbus.telemetry.privacy import described, trace_of
from eventbus.telemetry.tracing import current_trace_id

#: Loggers whose lines duplicate those of the library, which logs one line for each outcome and one
#: traceback for each unexpected error.
_LEVELS = {
    "celery.app.trace": "CRITICAL",
    "celery.worker.strategy": "WARNING",
    "amqp": "WARNING",
    "kombu": "WARNING",
    "opentelemetry.exporter": "CRITICAL",
}


#: The attributes that every record has. A line has its own fields for them, or omits them.
_RECORD_ATTRIBUTES = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})


def _text(value: object) -> str:
    return described(value) if isinstance(value, BaseException) else str(value)


_encoder = msgspec.json.Encoder(enc_hook=_text)


class JsonLine(logging.Formatter):
    """A formatter that writes a record and its `extra` as one line of JSON."""

    def formatException(self, ei: Any) -> str:  # noqa: N802, the name is logging's
        """Return the traceback, with errors described without the values that they quote."""
        return trace_of(ei[1]) if ei[1] else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        line: dict[str, Any] = {
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        for name, value in vars(record).items():
            if name not in _RECORD_ATTRIBUTES:
                line[name] = value
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = record.stack_info
        line["time"] = datetime.fromtimestamp(record.created, UTC)
        try:
            return _encoder.encode(line).decode()
        except (UnicodeEncodeError, TypeError):
            # A file name may contain bytes that are not text, and the line must not be lost for
            # that reason.
            return json.dumps(line, default=_text)


def _message(record: logging.LogRecord) -> str:
    # Libraries pass errors as arguments of a message.
    if isinstance(record.args, tuple) and any(isinstance(a, BaseException) for a in record.args):
        args = tuple(described(a) if isinstance(a, BaseException) else a for a in record.args)
        return str(record.msg) % args
    return record.getMessage()


class _WithTraceId(logging.Filter):
    """A filter that adds the id of the current trace to each line without a `trace_id`."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "trace_id") and (trace_id := current_trace_id()):
            record.trace_id = trace_id
        return True


class _NoTrace(logging.Filter):
    """A filter that removes tracebacks from lines logged every second while the broker is down."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        # Celery puts a stack trace into the message.
        record.msg, record.args = record.getMessage().partition("\n")[0], None
        return True


class _Lines(logging.StreamHandler[TextIO]):
    """A handler without a lock, so the threads of a process do not wait for each other.

    Each line is one write, which the kernel keeps contiguous: in a file at any length, and in a
    pipe, which several processes may share, up to 4096 bytes.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record that passes the filters."""
        if is_logged := bool(self.filter(record)):
            self.emit(record)
        return is_logged

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record to the stream's file descriptor or, if it has none, to the stream."""
        try:
            _write(self.stream, self.format(record) + self.terminator)
        except Exception:
            self.handleError(record)


def _write(stream: TextIO, text: str) -> None:
    try:
        descriptor = stream.fileno()
    except (OSError, AttributeError):
        # A stream in memory has no file descriptor.
        stream.write(text)
        return
    line = text.encode("utf-8", "surrogateescape")
    while line:
        line = line[os.write(descriptor, line) :]


def configure_logging(level: str) -> None:
    """Send every log record of this process to standard output as one line of JSON."""
    # Lines do not contain the thread or the process. Without these lookups, a line costs a fifth
    # less.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLine}},
            "filters": {"no trace": {"()": _NoTrace}, "trace id": {"()": _WithTraceId}},
            "handlers": {
                "stdout": {
                    "()": _Lines,
                    "stream": "ext://sys.stdout",
                    "formatter": "json",
                    "filters": ["trace id"],
                }
            },
            "root": {"level": level, "handlers": ["stdout"]},
            "loggers": {name: {"level": level} for name, level in _LEVELS.items()}
            | {"celery.beat": {"level": "WARNING", "filters": ["no trace"]}},
        }
    )
    logging.captureWarnings(capture=True)


class WorkerLogging(Logging):
    """A replacement for Celery's logging setup in the main process, its children, and beat."""

    def setup(self, *_: Any, **__: Any) -> bool:
        """Configure logging by the app's settings. True means that Celery configures nothing."""
        configure_logging(self.app.settings.log_level)
        return True
