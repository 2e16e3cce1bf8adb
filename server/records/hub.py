"""Hands events to readers in the same process, without a way through the database."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID, uuid4

from ..domain import Event

_BUFFER_BYTES = 4 * 1024 * 1024
"""What a reader may leave untaken; beyond it the reader goes back to the table."""

ThreadKey = tuple[str, UUID]
"""Tenant and thread."""


class Batch(NamedTuple):
    """Events of one run that were committed together."""

    first_seq: int
    last_seq: int
    run_id: UUID | None
    events: Sequence[Event]
    weight: int
    """Bytes."""


@dataclass(slots=True, eq=False)
class Subscription:
    """What has come in for one reader. Touched on the reader's loop only."""

    loop: asyncio.AbstractEventLoop
    wake: asyncio.Event
    batches: deque[Batch]
    weight: int = 0
    read_to: int = 0
    """Number of the last event that the reader has handed on."""
    behind: bool = True
    """There may be more in the table than in `batches`. A reader begins behind."""

    def receive(self, batch: Batch) -> None:
        """Take a batch, or drop all and fall back to the table when the reader is too slow."""
        self.wake.set()
        if self.behind:
            return
        if self.weight + batch.weight > _BUFFER_BYTES and self.batches:
            self.fall_behind()
            return
        self.batches.append(batch)
        self.weight += batch.weight

    def told(self, seq: int | None) -> None:
        """Something was committed, up to a number if it is known, that does not come through here."""
        if seq is None or seq > self.read_to:
            self.fall_behind()

    def fall_behind(self) -> None:
        """Send the reader to the table."""
        self.batches.clear()
        self.weight = 0
        self.behind = True
        self.wake.set()

    def next_batch(self) -> Batch | None:
        """The oldest batch not taken yet."""
        if not self.batches:
            return None
        batch = self.batches.popleft()
        self.weight -= batch.weight
        return batch

    async def wait(self, timeout_s: float) -> bool:
        """Wait until something came in; False when nothing did in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.wake.wait()
        except TimeoutError:
            return False
        self.wake.clear()
        return True


class Hub:
    """Fan-out of committed events to the readers of a process; one per process, for all its loops."""

    def __init__(self) -> None:
        self.origin = uuid4().hex[:12]
        """Marks the notifications of this process, which it need not read itself."""
        self._lock = threading.Lock()
        self._subscriptions: dict[ThreadKey, tuple[Subscription, ...]] = {}

    @contextmanager
    def subscribe(self, tenant_id: str, thread_id: UUID) -> Iterator[Subscription]:
        """Receive what is committed for a thread from now on, on the calling loop."""
        key = (tenant_id, thread_id)
        subscription = Subscription(asyncio.get_running_loop(), asyncio.Event(), deque())
        with self._lock:
            self._subscriptions[key] = (*self._subscriptions.get(key, ()), subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                left = tuple(s for s in self._subscriptions[key] if s is not subscription)
                if left:
                    self._subscriptions[key] = left
                else:
                    del self._subscriptions[key]

    def followed(self, tenant_id: str, thread_id: UUID) -> bool:
        """Whether anybody reads this thread now."""
        return (tenant_id, thread_id) in self._subscriptions

    def publish(self, tenant_id: str, thread_id: UUID, batch: Batch) -> None:
        """Hand on a committed batch; call it in the order of commits."""
        for subscription in self._subscriptions.get((tenant_id, thread_id), ()):
            self._call(subscription, subscription.receive, batch)

    def woken(self, tenant_id: str, thread_id: UUID, seq: int | None = None) -> None:
        """Send the readers of a thread to the table, unless they have read up to `seq`."""
        for subscription in self._subscriptions.get((tenant_id, thread_id), ()):
            self._call(subscription, subscription.told, seq)

    def woken_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send every reader on a loop to the table."""
        with self._lock:
            everybody = [s for group in self._subscriptions.values() for s in group]
        for subscription in everybody:
            if subscription.loop is loop:
                subscription.fall_behind()

    @staticmethod
    def _call(subscription: Subscription, function: Callable[..., None], *arguments: object) -> None:
        # A reader's loop may be closing while a run of another loop still publishes.
        if not subscription.loop.is_closed():
            subscription.loop.call_soon_threadsafe(function, *arguments)
