"""The settings of webhooks, with the checks that keep a wrong one from the start."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator

from .section import Seconds, Section


class WebhookUrlSettings(Section):
    """Where webhooks may go; `webhooks.url` of langgraph.json."""

    require_https: bool = True
    """Refuse plain http."""
    allowed_domains: tuple[str, ...] = ()
    """Hosts, as `hooks.example.org` or `*.example.org`; without any, every public host."""
    allowed_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = ()
    """Ports; without any, all of them."""
    max_url_length: int = Field(default=2048, ge=1)
    """Longest URL, in characters."""
    disable_loopback: bool = True
    """Refuse paths such as `/my-route`, which go to routes of `http.app` within the server."""

    @field_validator("allowed_domains")
    @classmethod
    def _hosts(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for domain in domains:
            if not re.fullmatch(r"(\*\.)?[^\s/:*@]+", domain):
                raise ValueError(f"{domain!r} must be a host or `*.domain`, without scheme, port and path")
        return tuple(domain.lower().rstrip(".") for domain in domains)


class WebhookSettings(Section):
    """How the end of a run is told to the `webhook` that it was created with."""

    url: WebhookUrlSettings = WebhookUrlSettings()
    """Where webhooks may go."""
    private_networks: tuple[str, ...] = ()
    """Private networks that may be reached too, such as `10.1.0.0/16`, or `127.0.0.0/8` for this machine."""
    headers: dict[str, SecretStr] = Field(default={})
    """Headers of every webhook; `${{ env.LG_WEBHOOK_TOKEN }}` stands for a variable."""
    env_prefix: str = Field(default="LG_WEBHOOK_", min_length=1)
    """How the variables begin that `headers` may name."""
    signing_secrets: tuple[SecretStr, ...] = ()
    """Keys that webhooks are signed with, each `whsec_` and Base64; the second one is for a rotation."""
    tenant_secrets: dict[str, tuple[SecretStr, ...]] = Field(default={})
    """Keys of single tenants, in place of `signing_secrets`."""
    timeout_s: Seconds = 10.0
    """How long the receiver may take to answer."""
    retry_span_s: Seconds = 86_400.0
    """How long a webhook is tried again that did not get through."""
    slots: int = Field(default=8, ge=1)
    """Webhooks sent at once by one process."""
    retention_s: Seconds = 604_800.0
    """How long a delivered webhook, or one that was given up, can be looked at and sent again."""

    @field_validator("private_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(text)) for text in networks)

    @field_validator("signing_secrets", "tenant_secrets")
    @classmethod
    def _keys(cls, secrets: Any) -> Any:
        keys = [key for one in secrets.values() for key in one] if isinstance(secrets, dict) else secrets
        for number, key in enumerate(keys, 1):
            try:
                bits = base64.b64decode(key.get_secret_value().removeprefix("whsec_"), validate=True)
            except binascii.Error:
                bits = b""
            # The key itself must not get into the message.
            if len(bits) < 24:
                raise ValueError(f"key {number} must be `whsec_` and 24 bytes or more in Base64")
        return secrets

    def secrets_of(self, tenant_id: str) -> tuple[str, ...]:
        """The keys that a tenant's webhooks are signed with."""
        keys = self.tenant_secrets.get(tenant_id, self.signing_secrets)
        return tuple(key.get_secret_value() for key in keys)
