"""Logs: JSON lines in rotated files, errors also apart; on stderr readable on a terminal and JSON elsewhere."""

import logging
import logging.handlers
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from foundation.events import Emit, Event

ROTATE_BYTES = 5_000_000
KEEP_FILES = 5


def set_up_logs(folder: Path, level: str, secrets: Sequence[str]) -> None:
    """Write to `folder`/penstock.log and errors.log, and lines of `level` and above to stderr.

    Raises OSError when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, must not hide the error itself
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without(secrets),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer = (
        structlog.dev.ConsoleRenderer(colors=True) if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    as_json = structlog.stdlib.ProcessorFormatter(
        processor=structlog.processors.JSONRenderer(), foreign_pre_chain=shared
    )
    on_stderr = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_traceback, renderer],
        foreign_pre_chain=shared,
    )
    everything = _file(folder / "penstock.log", logging.INFO, as_json)
    errors = _file(folder / "errors.log", logging.ERROR, as_json)
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(level.upper())
    console.setFormatter(on_stderr)
    logger = logging.getLogger("penstock")
    logger.handlers = [everything, errors, console]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logging.getLogger("stamina").handlers = logger.handlers


def listener() -> Emit:
    """Writes every event into the log; a notice or failure of a source counts as a warning."""
    log = structlog.get_logger("penstock")

    def write(event: Event) -> None:
        level = {"progressed": "debug", "noticed": "warning", "failed": "error"}.get(event.name, "info")
        fields = {"stage": event.stage, "source": event.source, "partition": event.partition, **event.counts}
        getattr(log, level)(
            event.message or event.name, **{key: value for key, value in fields.items() if value is not None}
        )

    return write


def _file(path: Path, level: int, formatter: logging.Formatter) -> logging.Handler:
    handler = logging.handlers.RotatingFileHandler(
        path, maxBytes=ROTATE_BYTES, backupCount=KEEP_FILES, encoding="utf-8", delay=True
    )
    handler.setLevel(level)
    handler.setFormatter(formatter)
    return handler


def _without_traceback(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
    """Tracebacks are for the files; on a terminal --debug shows them."""
    for key in ("exception", "traceback"):
        event.pop(key, None)
    return event


def _without(secrets: Sequence[str]) -> structlog.typing.Processor:
    """Every secret is cut out of every line, whatever brought it there."""

    def cut(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
        for key, value in event.items():
            if isinstance(value, str):
                for secret in secrets:
                    value = value.replace(secret, "***")
                event[key] = value
        return event

    return cut
