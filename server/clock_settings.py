"""Settings of what happens by the clock: crons, and threads that have outlived their time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .section import Minutes, Seconds, Section


class CronSettings(Section):
    """Runs that start by the clock."""

    catch_up: Literal["skip", "once", "all"] = "once"
    """What is made up for when times have passed while no worker ran: nothing, the latest, or all of them."""
    catch_up_limit: int = Field(default=10, ge=1, le=1000)
    """With `all`, how many times of one cron are made up for: the latest ones."""
    skip_after_s: Seconds = 60.0
    """With `skip`, how late a time may still count."""
    max_failures: int = Field(default=5, ge=1)
    """Refused firings in a row after which a cron is disabled."""


class ThreadTtlSettings(Section):
    """How long threads are kept. The keys of `checkpointer.ttl` in langgraph.json have the same names."""

    default_ttl: Minutes | None = None
    """Minutes after its last change that a thread made from now on is kept. Unset: until it is deleted."""
    strategy: Literal["delete", "keep_latest"] = "delete"
    """What happens then: the thread is deleted, or all of its history but the latest state."""
    sweep_interval_minutes: Minutes = 5.0
    """Pause between two searches for threads that have outlived their time."""
    sweep_limit: int = Field(default=1000, ge=1)
    """Threads that one search deals with at most."""
