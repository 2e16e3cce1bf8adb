"""Requests for runs that are refused before anything is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..encoding import encode
from ..errors import BadRequest, Invalid

if TYPE_CHECKING:
    from ..settings import Settings
    from .admission import RunRequest


def require_sense(request: RunRequest) -> None:
    """Refuse what contradicts itself.

    Raises:
        BadRequest: two of its fields do not go together.
        Invalid: a field has a value that no run can have.
    """
    if request.thread_id is None and request.parts is not None:
        raise BadRequest("You must provide a thread_id when resuming.")
    if request.context and request.settings:
        raise BadRequest(
            "`context` and `config.configurable` say the same thing; send one of them, preferably `context`"
        )
    if b"\\u0000" in encode([request.metadata, request.config.get("metadata")]):
        raise Invalid("`metadata` must not contain the character U+0000")
    if request.after_seconds < 0:
        raise Invalid("`after_seconds` must not be negative")


def require_few(settings: Settings, requests: Sequence[RunRequest]) -> None:
    """Refuse more runs at once than the server admits in one transaction.

    Raises:
        Invalid: there are more.
    """
    allowed = settings.http.max_batch_runs
    if len(requests) > allowed:
        raise Invalid(
            f"{len(requests)} runs in one batch; this server takes up to {allowed} (`http.max_batch_runs`)"
        )


def require_end(settings: Settings, recursion_limit: int | None) -> None:
    """Refuse a limit that is none.

    Raises:
        Invalid: the run could go on for more supersteps than the server allows.
    """
    allowed = settings.graphs.max_recursion_limit
    if recursion_limit is not None and recursion_limit > allowed:
        raise Invalid(
            f"`recursion_limit` is {recursion_limit}; this server allows up to {allowed} "
            "(`graphs.max_recursion_limit`)"
        )
