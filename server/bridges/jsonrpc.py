"""JSON-RPC 2.0, as MCP and A2A speak it: messages in, results and errors out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    JSONRPCMessage,
    JSONRPCNotification,
    RequestId,
    jsonrpc_message_adapter,
)
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from ..api.problems import first_fault, headers_of
from ..encoding import encode
from ..errors import Invalid, ServerError
from . import calls
from .calls import Call, Outcome

Params = TypeVar("Params", bound=BaseModel)

_NO_BATCH = "send one message with each request: batches are no part of the protocol any more"


class Fault(Exception):
    """A request that is answered with an error of JSON-RPC."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @classmethod
    def of(cls, error: ServerError) -> Fault:
        """What a method tells when the server refuses what it wants, or fails."""
        code = INTERNAL_ERROR if error.status >= 500 else INVALID_PARAMS
        return cls(code, error.message, {"code": error.code})


def read_message(raw: Any) -> JSONRPCMessage:
    """Check a message.

    Raises:
        Fault: it is none.
    """
    if isinstance(raw, list):
        raise Fault(INVALID_REQUEST, _NO_BATCH)
    try:
        message = jsonrpc_message_adapter.validate_python(raw)
    except ValidationError as error:
        raise Fault(INVALID_REQUEST, "not a message of JSON-RPC 2.0") from error
    if isinstance(message, JSONRPCNotification) and "id" in raw:
        raise Fault(INVALID_REQUEST, "`id` must be a text or an integer")
    return message


def read_params(model: type[Params], params: dict[str, Any] | None) -> Params:
    """Check the parameters of a method.

    Raises:
        Fault: they do not fit.
    """
    try:
        return model.model_validate(params or {})
    except ValidationError as error:
        raise Fault(INVALID_PARAMS, f"invalid params: {first_fault(error).message}") from error


def result_text(identity: RequestId, result: Any) -> bytes:
    """The answer of a method, as JSON text."""
    return encode({"jsonrpc": "2.0", "id": identity, "result": result})


def coming(
    identity: RequestId,
    call: Call,
    *,
    told: Callable[[Outcome], bytes],
    fault: Callable[[ServerError], Fault] = Fault.of,
) -> Callable[[], Awaitable[bytes]]:
    """The answer of a method that waits for what a run comes to, as JSON text."""

    async def text() -> bytes:
        try:
            return told(await calls.outcome_of(call))
        except ServerError as error:
            return fault_text(identity, fault(error))

    return text


def frame(text: bytes) -> bytes:
    """A message as an event of a stream."""
    return b"event: message\r\ndata: %b\r\n\r\n" % text


def fault_text(identity: RequestId | None, fault: Fault) -> bytes:
    """The error of a request, as JSON text."""
    return encode(_fault_shape(identity, fault))


def fault_response(
    identity: RequestId | None, fault: Fault, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The error of a request. What a method refuses is an answer, so its status is 200."""
    text = fault_text(identity, fault)
    return Response(text, status_code=status, headers=headers, media_type="application/json")


def refusal(error: ServerError) -> Response:
    """The error of what never became a request: no credentials, no right, no JSON."""
    if isinstance(error, Invalid):
        return fault_response(None, Fault(PARSE_ERROR, error.message), status=400)
    code = INTERNAL_ERROR if error.status >= 500 else INVALID_REQUEST
    fault = Fault(code, error.message, {"code": error.code})
    return fault_response(None, fault, status=error.status, headers=headers_of(error))


def misaddressed(error: ServerError) -> Response:
    """The error of what was sent to an address that cannot be one."""
    return fault_response(None, Fault.of(error), status=error.status)


def _fault_shape(identity: RequestId | None, fault: Fault) -> dict[str, Any]:
    told = {"code": fault.code, "message": fault.message}
    data = {"data": fault.data} if fault.data is not None else {}
    return {"jsonrpc": "2.0", "id": identity, "error": told | data}
