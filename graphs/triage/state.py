"""What triage keeps about a request, and what can be set for it."""

from __future__ import annotations

from typing import Literal

from langgraph.graph import MessagesState
from pydantic import BaseModel, ConfigDict, Field

Category = Literal["refund", "order_status", "complaint", "other"]

ORDER_PATTERN = r"^[A-Z]-[0-9]{1,10}$"


class Ticket(BaseModel):
    """What a customer's message is about."""

    category: Category = Field(
        description=(
            "refund: wants money back, wants to return something, asks to be reimbursed;\n"
            "order_status: asks where an order is, whether it was shipped, when it arrives;\n"
            "complaint: is angry or disappointed, was treated badly by staff, waited too long;\n"
            "other: anything else, such as opening hours, a greeting, thanks"
        )
    )
    order_id: str | None = Field(
        default=None, description="Number of the order, such as A-1001, if the message has one"
    )
    urgent: bool = Field(
        description="urgent, immediately, asap, lawyer, furious, unacceptable, threatens to leave"
    )


class TriageState(MessagesState):
    """The conversation with the customer, and what was found out about the newest message."""

    category: Category
    order_id: str | None
    urgent: bool
    draft: str
    """The reply that a person is asked about."""
    approved: bool
    """Whether that person let it go out."""


class TriageContext(BaseModel):
    """Settings of an assistant or of one run. Keys that clients add for themselves are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str | None = Field(
        default=None,
        description="Chat model that classifies: `offline`, or `provider:model`. Unset: that of the server.",
    )
