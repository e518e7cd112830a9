"""Logs: JSON lines on standard output, one line for each outcome."""

import logging
import logging.config
from typing import Any

from celery.app.log import Logging

from common.tracing import current_trace_id

#: Loggers whose lines our own say better: one line for each outcome, one trace for each surprise.
_LEVELS = {
    "celery.app.trace": "CRITICAL",
    "celery.worker.strategy": "WARNING",
    "amqp": "WARNING",
    "kombu": "WARNING",
    "opentelemetry.exporter": "CRITICAL",
}


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
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "json": {
                    "()": "pythonjsonlogger.json.JsonFormatter",
                    "format": "%(levelname)s %(name)s %(message)s",
                    "rename_fields": {"levelname": "level", "name": "logger"},
                    "timestamp": "time",
                }
            },
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
