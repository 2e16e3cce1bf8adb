"""What the server answers when it refuses or fails: status, code and message. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ServerError(Exception):
    """The server could not do what was asked."""

    status: int = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())

    @property
    def message(self) -> str:
        """What happened and what to do next; shown to the client."""
        return str(self.args[0])


class BadRequest(ServerError):
    """The request contradicts itself."""

    status = 400
    code = "bad_request"


class Unauthenticated(ServerError):
    """No valid credentials were given."""

    status = 401
    code = "unauthenticated"


class Forbidden(ServerError):
    """Forbidden"""

    status = 403
    code = "forbidden"


class Refused(ServerError):
    """The project's own authentication refused the request, in its own words."""

    code = "refused"

    def __init__(self, message: str, *, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class NotFound(ServerError):
    """Not Found"""

    status = 404
    code = "not_found"


class Conflicting(ServerError):
    """The request does not fit the present state."""

    status = 409
    code = "conflict"


class NoSuchInterrupt(ServerError):
    """Nothing waits for this answer."""

    status = 409
    code = "no_such_interrupt"


class TooLarge(ServerError):
    """The request body is too large."""

    status = 413
    code = "too_large"


class Invalid(ServerError):
    """The request is malformed."""

    status = 422
    code = "invalid"


class ModelFailed(ServerError):
    """A model that the server depends on failed."""

    status = 502
    code = "model_failed"


class Unavailable(ServerError):
    """The server cannot reach its database; try again."""

    status = 503
    code = "unavailable"
