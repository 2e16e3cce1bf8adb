"""AES-GCM with a key for each user; `owner` and `kind` stay plain, so that they can be searched for."""

import base64
import json
import os
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from langgraph_sdk import Encryption, EncryptionContext
from langgraph_sdk.encryption.types import DecryptResult

encryption = Encryption()

PLAIN = {"owner", "kind"}
KEYS = {name: AESGCM(name.encode().ljust(32, b".")) for name in ("ann", "bob", "nobody", "server")}
SEEN: list[tuple[str, str | None, str | None]] = []
"""What was done, to which model and field."""
PREFIX = "sealed:"


def key_of(ctx: EncryptionContext) -> AESGCM:
    owner = ctx.metadata.get("owner")
    if owner not in KEYS:
        raise ValueError(f"there is no key of {owner!r}")
    return KEYS[owner]


def seal(ctx: EncryptionContext, body: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + key_of(ctx).encrypt(nonce, body, None)


def unseal(ctx: EncryptionContext, body: bytes) -> bytes:
    return key_of(ctx).decrypt(body[:12], body[12:], None)


@encryption.context
async def context(user: Any, ctx: EncryptionContext) -> dict[str, Any]:
    return {"owner": user.identity, **ctx.metadata}


@encryption.encrypt.blob
async def encrypt_blob(ctx: EncryptionContext, blob: bytes) -> bytes:
    SEEN.append(("encrypt", ctx.model, ctx.field))
    return seal(ctx, blob)


@encryption.decrypt.blob
async def decrypt_blob(ctx: EncryptionContext, blob: bytes) -> DecryptResult[bytes]:
    return DecryptResult(unseal(ctx, blob))


@encryption.encrypt.json
async def encrypt_json(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
    SEEN.append(("encrypt", ctx.model, ctx.field))
    if "loses a key" in str(data):
        return {"all": "in one"}
    plain = PLAIN - {"owner"} if "hides its owner" in str(data) else PLAIN
    return {
        name: value
        if name in plain or value is None
        else PREFIX + base64.b64encode(seal(ctx, json.dumps(value).encode())).decode()
        for name, value in data.items()
    }


@encryption.decrypt.json
async def decrypt_json(ctx: EncryptionContext, data: dict[str, Any]) -> dict[str, Any]:
    return {
        name: json.loads(unseal(ctx, base64.b64decode(value.removeprefix(PREFIX))))
        if isinstance(value, str) and value.startswith(PREFIX)
        else value
        for name, value in data.items()
    }
