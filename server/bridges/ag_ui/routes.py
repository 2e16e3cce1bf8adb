"""The address of an assistant, for the `HttpAgent` of a user interface.

The protocol has no way back to a run that is under way, so an interface that leaves stops it.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from starlette.responses import Response

from ...api.bodies import json_body
from ...api.callers import Caller, may
from ...api.held import HeldResponse
from ...api.schemas import Identifier
from .. import calls
from ..offered import assistant_named, form_of
from ..waiting import thread_of
from .input import Draft, read, thread_id_of
from .stream import Exchange

router = APIRouter(tags=["bridges"])

MayRun = Annotated[Caller, may("threads", "create_run")]

_SIGN_OF_LIFE = b": heartbeat\n\n"


@router.post("/ag-ui/{assistant_id}")
async def run_ag_ui(caller: MayRun, assistant_id: Identifier, raw: Annotated[Any, json_body()]) -> Response:
    """A run of an assistant, as a stream of events of AG-UI."""
    wanted = read(raw)
    assistant = await assistant_named(caller, assistant_id)
    form = await form_of(caller, assistant)
    thread_id = thread_id_of(caller, wanted.thread_id)
    thread = await thread_of(caller, thread_id)
    draft = Draft(assistant=assistant, form=form, thread=thread, thread_id=thread_id, wanted=wanted)
    call = await calls.begin(caller, draft.request())
    return HeldResponse(
        Exchange(call, wanted, form.talks).frames(),
        http=caller.resources.settings.http,
        headers={},
        sign_of_life=_SIGN_OF_LIFE,
        media_type="text/event-stream",
        on_leave=call.on_leave(),
    )
