"""A2A: every assistant is an agent that others send messages to; a context is a thread, a task is a run.

Both versions of the protocol are spoken at one address, told apart by the names of their methods:
`message/send` is 0.3, `SendMessage` is 1.0. What is sent is read alike; answers differ in their shape.
"""

from .routes import router

__all__ = ["router"]
