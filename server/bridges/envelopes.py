"""Errors in the envelope of a protocol: a client of it knows no other."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.responses import Response

from ..api.problems import first_fault, unforeseen
from ..errors import ServerError

Render = Callable[[ServerError], Response]
"""How a protocol tells what the server refused, or failed at."""


def enveloped(render: Render, *, misaddressed: Render | None = None) -> type[APIRoute]:
    """The class of routes that answer every refusal and failure as `render` does.

    `misaddressed`: how a path or a query is refused, where that is another thing than a body.
    """

    class EnvelopedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def enveloping(request: Request) -> Response:
                try:
                    return await handle(request)
                except ServerError as error:
                    return render(error)
                except RequestValidationError as error:
                    return (misaddressed or render)(first_fault(error))
                except ValidationError as error:
                    return render(first_fault(error))
                except Exception as error:  # noqa: BLE001 - the edge: whatever broke, its client reads this
                    return render(unforeseen(error))

            return enveloping

    return EnvelopedRoute
