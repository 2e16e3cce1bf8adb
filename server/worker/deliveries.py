"""Sends webhooks: claims what is due, tries it, and notes what became of it.

A word may be sent twice, after a crash between the sending and the note, but never lost; its `webhook-id`
tells the receiver.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib.metadata import version
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import structlog
from standardwebhooks import Webhook

from ...checkpoints.errors import DatabaseError
from ...checkpoints.sealed import seal_for
from ...tools.egress import CheckedTransport, EgressRefused, Resolver, resolve
from ..encoding import encode
from ..records import deliveries
from ..records.deliveries import Delivery, DeliveryStatus
from ..runs import outbox
from ..runs.webhook_headers import headers_of
from ..runs.webhooks import Targets

if TYPE_CHECKING:
    from ..resources import Resources
    from ..webhook_settings import WebhookSettings

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3600.0
_GONE = 410
_LEASE_MARGIN_S = 30.0
"""What claiming, looking up the state and noting the attempt may take besides the sending."""
_OWN_APP = "http://interlock"


class Answer(NamedTuple):
    """What came of one attempt."""

    status_code: int | None = None
    error: str | None = None
    retry_after_s: float = 0.0

    @property
    def next_status(self) -> DeliveryStatus:
        """What the delivery is now."""
        if self.status_code is not None and 200 <= self.status_code < 300:
            return "delivered"
        return "dead" if self.status_code == _GONE else "pending"


class Deliverer:
    """Sends the webhooks of every tenant until it is told to drain.

    Args:
        resources: those of the loop that it runs on.
        app: the project's own ASGI app, for URLs that are paths of it.
        remote: whether it sends to other hosts; a process without a worker only serves its own app.
        resolver: asks for the addresses of a host.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        app: Any = None,
        remote: bool = True,
        resolver: Resolver = resolve,
    ) -> None:
        self.resources = resources
        self._settings = resources.settings.webhooks
        self._app = app
        self._remote = remote
        self._targets = Targets(self._settings, resolver=resolver)
        self._headers = headers_of(self._settings, os.environ)
        self._sending: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._draining = asyncio.Event()

    @cached_property
    def _tls(self) -> SSLContext:
        # One for all: reading the certificates takes longer than a request.
        return httpx.create_ssl_context()

    def request_drain(self) -> None:
        """Claim nothing more; `run` returns when what is under way has an answer."""
        self._draining.set()
        self._wake.set()

    async def run(self) -> None:
        """Send until drained; returns at once where webhooks are switched off."""
        if self.resources.settings.http.disable_webhooks:
            return
        with contextlib.ExitStack() as stack:
            stack.callback(self.resources.wakeups.listen("interlock_webhooks", lambda _: self._wake.set()))
            async with asyncio.TaskGroup() as group:
                while not self._draining.is_set():
                    self._wake.clear()
                    await self._start_due(group)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self.resources.settings.worker.poll_s):
                            await self._wake.wait()

    async def _start_due(self, group: asyncio.TaskGroup) -> None:
        free = self._settings.slots - len(self._sending)
        if free <= 0:
            return
        try:
            async with self.resources.database.connection() as connection:
                claimed = await deliveries.claim(
                    connection,
                    slots=free,
                    lease_s=self._settings.timeout_s + _LEASE_MARGIN_S,
                    local=self._app is not None,
                    remote=self._remote,
                )
        except DatabaseError as error:
            log.warning("webhook_claim_failed", error=str(error))
            return
        for delivery in claimed:
            sending = group.create_task(self._deliver(delivery), name=f"webhook {delivery.run_id}")
            self._sending.add(sending)
            sending.add_done_callback(self._done)

    def _done(self, sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        self._wake.set()

    # --- one attempt -----------------------------------------------------------------------------

    async def _deliver(self, delivery: Delivery) -> None:
        started, at = time.monotonic(), datetime.now(UTC)
        seal_for(delivery.principal.encryption)
        try:
            reason = delivery.unreadable
            body = b"" if reason else await self._body(delivery, at)
            answer = Answer(error=reason) if reason else await self._send(delivery, body, at)
            attempt = {
                "at": at.isoformat(),
                "seconds": round(time.monotonic() - started, 3),
                "status_code": answer.status_code,
                "error": answer.error,
            }
            await self._record(delivery, answer, attempt)
        except DatabaseError as error:
            # Whoever finds it due again tries it again.
            log.warning("webhook_not_noted", run_id=str(delivery.run_id), error=str(error))

    async def _body(self, delivery: Delivery, at: datetime) -> bytes:
        values = delivery.values
        if values is None:
            values = await outbox.values_left(self.resources, delivery)
            async with self.resources.database.connection() as connection:
                await deliveries.hold_values(connection, delivery, values)
        return b'%b,"values":%b,"webhook_sent_at":%b}' % (delivery.body[:-1], values, encode(at))

    async def _send(self, delivery: Delivery, body: bytes, at: datetime) -> Answer:
        headers = {
            **self._headers,
            "content-type": "application/json",
            "user-agent": f"interlock/{version('interlock')}",
            **signed(self._settings, delivery, body, at),
        }
        try:
            self._targets.check(delivery.url)
            async with (
                asyncio.timeout(self._settings.timeout_s),
                self._client(delivery) as client,
                client.stream("POST", delivery.url, content=body, headers=headers) as response,
            ):
                # Nothing of the receiver's body is read, however large it is or slowly it comes.
                return _answer_of(response)
        except EgressRefused as refused:
            return Answer(error=str(refused))
        except (TimeoutError, httpx.TimeoutException):
            return Answer(error=f"no answer within {self._settings.timeout_s:g} s")
        except httpx.HTTPError as error:
            return Answer(error=f"the receiver could not be reached: {type(error).__name__}")
        except Exception as error:
            # One that nobody thought of must not end the worker, which would meet it again.
            log.exception("webhook_broke_off", run_id=str(delivery.run_id))
            return Answer(error=f"the request broke off: {type(error).__name__}")

    def _client(self, delivery: Delivery) -> httpx.AsyncClient:
        # A connection is never shared: an address may be that of several hosts, and is checked anew.
        if delivery.local:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            return httpx.AsyncClient(transport=transport, base_url=_OWN_APP)
        return httpx.AsyncClient(
            transport=CheckedTransport(self._targets, tls=self._tls),
            timeout=self._settings.timeout_s,
            follow_redirects=False,
            trust_env=False,
        )

    async def _record(self, delivery: Delivery, answer: Answer, attempt: Mapping[str, Any]) -> None:
        async with self.resources.database.connection() as connection:
            now = await deliveries.record(
                connection,
                delivery,
                status=answer.next_status,
                attempt=attempt,
                pause_s=max(pause_after(delivery.failures), answer.retry_after_s),
            )
        if now is None:
            log.info("webhook_not_ours", run_id=str(delivery.run_id))
            return
        # Only the host: the rest of an address is often its secret.
        told = {"run_id": str(delivery.run_id), "host": _host_of(delivery.url), "attempt": len(now.attempts)}
        match now.status:
            case "delivered":
                log.info("webhook_delivered", **told, status_code=answer.status_code)
            case "pending":
                log.warning("webhook_failed", **told, status_code=answer.status_code, error=answer.error)
            case "dead":
                log.error("webhook_given_up", **told, status_code=answer.status_code, error=answer.error)


def signed(settings: WebhookSettings, delivery: Delivery, body: bytes, at: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks: id and time, and a signature by each key of the tenant."""
    name = delivery.webhook_id
    headers = {"webhook-id": name, "webhook-timestamp": str(int(at.timestamp()))}
    signatures = [
        Webhook(key).sign(name, at, body.decode()) for key in settings.secrets_of(delivery.tenant_id)
    ]
    return headers | ({"webhook-signature": " ".join(signatures)} if signatures else {})


def pause_after(failures: int) -> float:
    """Seconds before the next attempt: twice as long each time, and never for all at once."""
    longest = min(_FIRST_PAUSE_S * 2 ** min(failures, 20), _LONGEST_PAUSE_S)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads load, it guards nothing


def _host_of(url: str) -> str | None:
    """The host of a URL, as it stands there; None where it is none, which has been told by then."""
    try:
        return httpx.URL(url).raw_host.decode()
    except httpx.InvalidURL:
        return None


def _answer_of(response: httpx.Response) -> Answer:
    code = response.status_code
    if 200 <= code < 300:
        return Answer(code)
    error = "redirects are not followed" if 300 <= code < 400 else f"the receiver answered {code}"
    return Answer(code, error, _retry_after_s(response.headers.get("retry-after", "")))


def _retry_after_s(text: str) -> float:
    """Seconds that the receiver asks for, in either form of the header; 0 when it is neither."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        due = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    due = due if due.tzinfo else due.replace(tzinfo=UTC)
    return max((due - datetime.now(UTC)).total_seconds(), 0.0)
