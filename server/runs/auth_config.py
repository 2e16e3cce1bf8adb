"""The key `auth` of langgraph.json."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AuthCache(_Section):
    """How long an authenticated user is remembered."""

    cache_keys: list[str] = Field(min_length=1)
    """Request headers that tell one caller from another."""
    ttl_seconds: float = Field(default=60.0, gt=0)
    max_size: int = Field(default=1000, ge=1)


class AuthConfig(_Section):
    """The key `auth` of langgraph.json."""

    path: str | None = Field(default=None, pattern=r"^.+:[^:/]+$")
    disable_studio_auth: bool = False
    openapi: dict[str, Any] = Field(default_factory=dict)
    cache: AuthCache | None = None


def auth_config(value: Any, problems: list[str]) -> AuthConfig:
    """Read the key `auth`; what is wrong with it is added to `problems`."""
    try:
        return AuthConfig.model_validate({} if value is None else value)
    except ValidationError as error:
        for fault in error.errors():
            where = ".".join(["auth", *(str(part) for part in fault["loc"])])
            problems.append(f"`{where}`: {fault['msg']}")
        return AuthConfig()
