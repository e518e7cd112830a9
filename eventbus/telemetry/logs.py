"""Logs: JSON lines on standard output, one line for each outcome."""

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

import msgspec
from celery.app.log import Logging

from eventbus.telemetry.privacy import trace_of
from eventbus.telemetry.tracing import current_trace_id

#: Loggers whose lines our own say better: one line for each outcome, one trace for each surprise.
_LEVELS = {
    "celery.app.trace": "CRITICAL",
    "celery.worker.strategy": "WARNING",
    "amqp": "WARNING",
    "kombu": "WARNING",
    "opentelemetry.exporter": "CRITICAL",
}


#: What every record has, and a line says by its own fields, or not at all.
_OF_ANY_RECORD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})

_encoder = msgspec.json.Encoder(enc_hook=str)


class JsonLine(logging.Formatter):
    """Writes a record, and the `extra` that it was given, as one line of JSON."""

    def formatException(self, ei: Any) -> str:  # noqa: N802, the name is logging's
        """Return the trace, its errors described without the values that their texts quote."""
        return trace_of(ei[1]) if ei[1] else ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _OF_ANY_RECORD:
                line[name] = value
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = record.stack_info
        line["time"] = datetime.fromtimestamp(record.created, UTC)
        try:
            return _encoder.encode(line).decode()
        except (UnicodeEncodeError, TypeError):
            # A file's name may hold what is no text; it must not cost the line.
            return json.dumps(line, default=str)


class _WithTraceId(logging.Filter):
    """Adds the trace that is being worked on to each line that does not name one itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "trace_id") and (found := current_trace_id()):
            record.trace_id = found
        return True


class _NoTrace(logging.Filter):
    """Leaves the trace out of lines that come every second while the broker is down."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        # Celery puts a stack into the text.
        record.msg, record.args = record.getMessage().partition("\n")[0], None
        return True


def configure_logging(level: str) -> None:
    """Send every log record of this process to standard output as one line of JSON."""
    # No line says which thread or process wrote it: not to ask saves a fifth of what a line costs.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": JsonLine}},
            "filters": {"no trace": {"()": _NoTrace}, "trace id": {"()": _WithTraceId}},
            "handlers": {
                "stdout": {
                    "class": "logging.StreamHandler",
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
    """Celery's logging set-up, replaced by ours in the main process, its children, and beat."""

    def setup(self, *_: Any, **__: Any) -> bool:
        """Configure logging by the app's settings; True: Celery has nothing left to do."""
        configure_logging(self.app.settings.log_level)
        return True
