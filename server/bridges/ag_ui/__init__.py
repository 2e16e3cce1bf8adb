"""AG-UI: every assistant runs for a user interface, which sends a conversation and gets events."""

from .routes import router

__all__ = ["router"]
