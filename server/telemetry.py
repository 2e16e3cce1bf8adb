"""Structured logs: configured here and nowhere else, before anything logs."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from .settings import LogSettings, masked

_SECRET_NAMES = ("api_key", "authorization", "cookie", "password", "secret", "token")
_HARMLESS_NAMES = ("tokens", "max_tokens", "token_count")


def configure_logging(settings: LogSettings) -> None:
    """Send all logs, ours and those of libraries, to standard error in one form."""
    terminal = sys.stderr.isatty()
    json_lines = not terminal if settings.json_lines is None else settings.json_lines
    color = terminal if settings.color is None else settings.color
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    if json_lines:
        formatted = [structlog.processors.format_exc_info, hide_secrets]
        renderer: list[Any] = [*formatted, structlog.processors.JSONRenderer()]
    else:
        # The rich form of a traceback would show local variables, and with them secrets.
        console = structlog.dev.ConsoleRenderer(
            colors=color, exception_formatter=structlog.dev.plain_traceback, pad_event_to=28
        )
        renderer = [console]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *[step for step in shared if not isinstance(step, structlog.stdlib.ExtraAdder)],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # One line for each request of every library, and each start line of the server: only when asked.
    if settings.level != "debug":
        for name in ("httpx", "httpcore", "uvicorn.error", "watchfiles", "psycopg.pool"):
            logging.getLogger(name).setLevel(logging.WARNING)


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank values whose name says that they are secret, and passwords in addresses."""
    for name, value in event.items():
        plain = name.lower().replace("-", "_")
        if any(word in plain for word in _SECRET_NAMES) and plain not in _HARMLESS_NAMES:
            event[name] = "***"
        elif isinstance(value, str) and ("://" in value or "password=" in value):
            event[name] = masked(value)
    return event
