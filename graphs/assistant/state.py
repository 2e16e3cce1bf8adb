"""What the assistant keeps, and what can be set for it."""

from __future__ import annotations

from langgraph.graph import MessagesState
from pydantic import BaseModel, ConfigDict, Field

from .prompts import SYSTEM_PROMPT


class AssistantState(MessagesState):
    """The conversation."""


class AssistantContext(BaseModel):
    """Settings of an assistant or of one run. Keys that clients add for themselves are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str | None = Field(
        default=None,
        description="Chat model: `offline`, or `provider:model`. Unset: that of the server.",
    )
    system_prompt: str = Field(
        default=SYSTEM_PROMPT, description="What the model is told before a conversation."
    )
    tools: list[str] | None = Field(
        default=None, description="Names of the tools that the model is offered. Unset: all of them."
    )
