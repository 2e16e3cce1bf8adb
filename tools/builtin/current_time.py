"""Tells the time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from ..errors import ToolFailed
from ..tool import tool


@tool(effect="read", risk="low", timeout_s=5)
async def current_time(
    timezone: Annotated[str, Field(description="IANA name, such as Europe/Berlin", max_length=64)] = "UTC",
) -> str:
    """Tell the current date and time, in UTC or in a given time zone."""
    try:
        zone = ZoneInfo(timezone) if timezone != "UTC" else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ToolFailed(f"{timezone!r} is not a known time zone; use an IANA name") from error
    return datetime.now(zone).strftime("%A, %Y-%m-%d %H:%M:%S %Z (UTC%z)")
