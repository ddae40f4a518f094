"""Logging: one line per event, for people on a console or as JSON, with event names that are constants."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import structlog
import structlog.tracebacks

BATCH_REFUSED: Final = "batch_refused"
BATCH_DEADLY: Final = "batch_deadly"
BATCH_GONE: Final = "batch_gone"
BATCH_REPEATED: Final = "batch_repeated"
BATCH_WAITS: Final = "batch_waits"
CATCHING_UP: Final = "catching_up"
CERTIFIED: Final = "model_certified"
CLOCK_STEPPED: Final = "clock_stepped"
CONFIGURATION_APPLIED: Final = "configuration_applied"
CONFIGURATION_UNREADABLE: Final = "configuration_unreadable"
CONNECTION_BACK: Final = "connection_back"
CONNECTION_ENDED: Final = "connection_ended"
CONNECTION_FAILED: Final = "connection_failed"
CONNECTION_FILLED: Final = "connection_filled"
CONNECTION_GAP: Final = "connection_gap"
CONNECTION_LOST: Final = "connection_lost"
CONNECTION_NOTE: Final = "connection_note"
CONNECTION_REBOUND: Final = "connection_rebound"
CONNECTION_REFUSED: Final = "connection_refused"
CONNECTION_UP: Final = "connection_up"
DATABASE_BACK: Final = "database_back"
DATABASE_LOST: Final = "database_lost"
DEVICE_CHANGED: Final = "device_changed"
DEVICE_LOST: Final = "device_lost"
DEVICE_REFUSED: Final = "device_refused"
DEVICES_CHANGED: Final = "devices_changed"
DEVICES_UNKNOWN: Final = "devices_unknown"
ENGINE_KILLED: Final = "engine_killed"
FILLING_FAILED: Final = "filling_failed"
FILLING_PUT_OFF: Final = "filling_put_off"
GATEWAY_FAILED: Final = "gateway_failed"
GATEWAY_READY: Final = "gateway_ready"
GATEWAY_STOPPED: Final = "gateway_stopped"
HISTORY_COMPACTED: Final = "history_compacted"
HISTORY_DAMAGED: Final = "history_damaged"
HISTORY_THINNED: Final = "history_thinned"
JOURNAL_DAMAGED: Final = "journal_damaged"
JOURNAL_DROPPED: Final = "journal_dropped"
JOURNAL_DROPPING: Final = "journal_dropping"
JOURNAL_MISSING: Final = "journal_missing"
JOURNAL_NOT_DROPPED: Final = "journal_not_dropped"
JOURNAL_OPENED: Final = "journal_opened"
JOURNAL_RUNNING: Final = "journal_running"
JOURNAL_STOPPED: Final = "journal_stopped"
JOURNAL_WRITER_FAILED: Final = "journal_writer_failed"
LEASES_LAPSED: Final = "leases_lapsed"
LEASES_LOST: Final = "leases_lost"
LEASES_TAKEN: Final = "leases_taken"
LETTER_REPLAYED: Final = "letter_replayed"
MESSAGES_SENT_AGAIN: Final = "messages_sent_again"
NOT_CERTIFIED: Final = "model_not_certified"
OUTBOX_REPLAYED: Final = "outbox_replayed"
PIPELINE_UNUSABLE: Final = "pipeline_unusable"
PREDICTIONS_NOT_STORABLE: Final = "predictions_not_storable"
PROMISE_BROKEN: Final = "promise_broken"
PROMISE_KEPT: Final = "promise_kept"
QUEUE_BACK: Final = "queue_back"
QUEUE_LOST: Final = "queue_lost"
READINGS_REPEATED: Final = "readings_repeated"
RETENTION_REMOVED: Final = "retention_removed"
SERVING_FAILED: Final = "serving_failed"
SERVING_LOADED: Final = "serving_loaded"
SERVING_UNLOADED: Final = "serving_unloaded"
SESSION_FAILED: Final = "session_failed"
SESSION_READY: Final = "session_ready"
SNAPSHOT_FAILED: Final = "snapshot_failed"
SNAPSHOT_UNUSABLE: Final = "snapshot_unusable"
SUBSCRIPTION_BACK: Final = "subscription_back"
SUBSCRIPTION_FAILED: Final = "subscription_failed"
SUBSCRIPTION_LOST: Final = "subscription_lost"
SUBSCRIPTION_NOTE: Final = "subscription_note"
SUBSCRIPTION_REFUSED: Final = "subscription_refused"
SUBSCRIPTION_UP: Final = "subscription_up"
WINDOWS_RECOMPUTED: Final = "windows_recomputed"
WINDOWS_THINNED: Final = "windows_thinned"
WINDOWS_UNREADABLE: Final = "windows_unreadable"
WORK_BACK: Final = "work_back"
WORK_MOVED: Final = "work_moved"
WORKERS_UNREADABLE: Final = "workers_unreadable"

Logger = structlog.stdlib.BoundLogger


def configure(level: str, form: str) -> None:
    """Set up this process once. `level`: DEBUG, INFO, WARNING, ERROR; `form`: `console` or `json`. Goes to stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        as_data = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        tracebacks = structlog.processors.ExceptionRenderer(as_data)
        last: list[Any] = [tracebacks, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        # Local variables stay out of tracebacks: they hold secrets.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Libraries tell of outages in their own words and at length; the runner tells once.
    for name in ("asyncua", "paho", "kombu", "celery", "amqp", "sqlalchemy"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> Logger:
    """A logger; event names are the constants of this module, everything else goes in keywords, never a secret."""
    made: Logger = structlog.stdlib.get_logger(name)
    return made
