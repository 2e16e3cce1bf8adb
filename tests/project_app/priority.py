"""Serves by what a run says of its urgency, and groups by plan and caller."""

from __future__ import annotations

import warnings

from langgraph_sdk import Priority, PriorityContext, PrioritySettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    priority = Priority()


@priority.assign
async def assign(ctx: PriorityContext) -> PrioritySettings | None:
    urgency = ctx.run_metadata.get("urgency")
    if urgency is None:
        return None
    if urgency == "raise":
        raise RuntimeError("no such plan")
    plan = ctx.thread_metadata.get("plan")
    group = f"{plan}:{ctx.user.identity}:{ctx.graph_id}" if plan else None
    return {"priority": urgency, "fairness_group": group}
