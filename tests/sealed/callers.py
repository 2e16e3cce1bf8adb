"""Everybody is let in under the name they give, and has their own."""

from typing import Any

from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None) -> dict[str, Any]:
    name = (authorization or "nobody").removeprefix("Bearer ")
    return {"identity": name, "email": f"{name}@secret.example"}


@auth.on
async def own(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}


@auth.on.store
async def everybody(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> None:
    return None
