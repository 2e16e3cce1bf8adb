"""The long-term store over HTTP: the one that graphs write to."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query, Request
from langgraph.store.base import NOT_PROVIDED, Item
from starlette.responses import Response

from ...checkpoints.embedding import EmbeddingFailed
from ...checkpoints.store_search import conditions_of
from ..encoding import JsonObject
from ..errors import BadRequest, Invalid, ModelFailed, ServerError
from ..runs.scope import Answer
from .bodies import body
from .callers import Caller, may
from .schemas import Text
from .shapes import json_response, nothing
from .store_schemas import ItemKey, ItemPut, ItemSearch, NamespaceSearch, named_namespace

router = APIRouter(prefix="/store", tags=["store"])

SHORTFALL_HEADER = "x-interlock-shortfall"
"""Items of a page that may not be the nearest, as there was too much to compare."""

MaySearch = Annotated[Caller, may("store", "search")]


@router.put("/items", status_code=204)
async def put_item(
    caller: Annotated[Caller, may("store", "create")], wanted: Annotated[ItemPut, body(ItemPut)]
) -> Response:
    """Store an item, over an older one with its key."""
    answer = await caller.ask(
        "store",
        "put",
        namespace=wanted.writable_namespace(),
        key=wanted.key,
        value=wanted.value,
        index=wanted.index,
        ttl=wanted.ttl,
    )
    allowed = ItemPut.model_validate({"key": wanted.key, **answer.value, "namespace": _labels(answer)})
    namespace = allowed.writable_namespace()
    ttl = NOT_PROVIDED if wanted.ttl is None else wanted.ttl
    with _translated():
        await caller.resources.store(caller.tenant_id).aput(
            namespace, allowed.key, allowed.value, index=wanted.index, ttl=ttl
        )
    return nothing()


@router.get("/items")
async def get_item(
    caller: Annotated[Caller, may("store", "read")],
    key: Annotated[Text, Query()] = "",
    namespace: Annotated[Text, Query(description="Labels joined by dots.")] = "",
    refresh_ttl: Annotated[bool | None, Query()] = None,
) -> Response:
    """One item, or null."""
    if not key:
        raise BadRequest("Key is required")
    answer = await caller.ask("store", "get", namespace=named_namespace(namespace), key=key)
    labels = tuple(_labels(answer))
    with _translated():
        found = await caller.resources.store(caller.tenant_id).aget(labels, key, refresh_ttl=refresh_ttl)
    return json_response(item_shape(found) if found else None)


@router.delete("/items", status_code=204)
async def delete_item(
    caller: Annotated[Caller, may("store", "delete")], wanted: Annotated[ItemKey, body(ItemKey)]
) -> Response:
    """Delete an item; nothing happens when there is none."""
    answer = await caller.ask("store", "delete", namespace=tuple(wanted.namespace), key=wanted.key)
    allowed = ItemKey(namespace=_labels(answer), key=wanted.key)
    with _translated():
        await caller.resources.store(caller.tenant_id).adelete(tuple(allowed.namespace), allowed.key)
    return nothing()


@router.post("/items/search")
async def search_items(
    request: Request, caller: MaySearch, wanted: Annotated[ItemSearch, body(ItemSearch)]
) -> Response:
    """Items below a namespace: nearest in meaning to `query` first, or last changed first."""
    _check_filter(wanted.filter or {})
    answer = await caller.ask(
        "store",
        "search",
        namespace=tuple(wanted.namespace_prefix),
        filter=wanted.filter,
        limit=wanted.limit,
        offset=wanted.offset,
        query=wanted.query,
    )
    store = caller.resources.store(caller.tenant_id)
    with _translated():
        found = await store.asearch(
            tuple(_labels(answer)),
            query=wanted.query,
            filter=answer.value.get("filter"),
            limit=wanted.limit,
            offset=wanted.offset,
            refresh_ttl=wanted.refresh_ttl,
        )
    headers: dict[str, str] = {}
    if store.shortfall:
        headers[SHORTFALL_HEADER] = str(store.shortfall)
        request.app.state.metrics.observe_shortfall(store.shortfall)
    items = [item_shape(item) | {"score": item.score} for item in found]
    return json_response({"items": items}, headers=headers)


@router.post("/namespaces")
async def list_namespaces(
    caller: MaySearch, wanted: Annotated[NamespaceSearch, body(NamespaceSearch)]
) -> Response:
    """Namespaces in use."""
    answer = await caller.ask(
        "store",
        "list_namespaces",
        namespace=tuple(wanted.prefix) if wanted.prefix else None,
        suffix=tuple(wanted.suffix) if wanted.suffix else None,
        max_depth=wanted.max_depth,
        limit=wanted.limit,
        offset=wanted.offset,
    )
    with _translated():
        found = await caller.resources.store(caller.tenant_id).alist_namespaces(
            prefix=tuple(_labels(answer)) or None,
            suffix=answer.value.get("suffix"),
            max_depth=wanted.max_depth,
            limit=wanted.limit,
            offset=wanted.offset,
        )
    return json_response({"namespaces": found})


def item_shape(item: Item) -> JsonObject:
    """An item of the store."""
    return {
        "namespace": list(item.namespace),
        "key": item.key,
        "value": item.value,
        "created_at": item.created_at,
        "updated_at": item.updated_at,
    }


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except EmbeddingFailed as error:
        raise ModelFailed(f"{error}; nothing was stored or searched, try again") from error
    except ValueError as error:
        raise Invalid(str(error)) from error


def _labels(answer: Answer) -> list[str]:
    """The namespace that a handler left, where it may have put the caller into its own."""
    given = answer.value.get("namespace")
    if isinstance(given, str) or not all(isinstance(label, str) for label in given or ()):
        raise ServerError("Internal Server Error")
    return list(given or ())


def _check_filter(wanted: JsonObject) -> None:
    try:
        list(conditions_of(wanted))
    except ValueError as error:
        raise Invalid(f"filter: {error}") from error
