"""What clients of A2A send, in either version of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from ...api.schemas import Identifier, Sent, StorableObject, Text

_KINDS = {"image", "audio", "video"}
_EXACT = 2**53
"""From here on a float stands for several integers."""


def _with_whole_numbers(value: Any) -> Any:
    """Data as they were meant: protocol buffers know no integers, so their clients send 5.0 for 5."""
    match value:
        case float() if value.is_integer() and abs(value) < _EXACT:
            return int(value)
        case dict():
            return {name: _with_whole_numbers(one) for name, one in value.items()}
        case list():
            return [_with_whole_numbers(one) for one in value]
        case _:
            return value


class _Sent(Sent):
    """Fields that a later version adds have no effect."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class SentFile(_Sent):
    """A file as version 0.3 sends it."""

    bytes: str | None = None
    """In base64."""
    uri: str | None = None
    mime_type: str | None = None
    name: str | None = None


class SentPart(_Sent):
    """One piece of a message: exactly one of text, data and file."""

    text: str | None = None
    data: Annotated[Any, AfterValidator(_with_whole_numbers)] = None
    file: SentFile | None = None
    raw: str | None = None
    """A file of version 1.0, in base64."""
    url: str | None = None
    media_type: str | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.file is not None and (self.file.bytes is None) == (self.file.uri is None):
            raise ValueError("a file has either `bytes` or `uri`")
        if sum(one is not None for one in (self.text, self.data, self.file, self.raw, self.url)) != 1:
            raise ValueError("a part is exactly one of text, data and file")
        return self

    def content(self) -> dict[str, Any]:
        """A text or a file as a block of a message's content."""
        if self.text is not None:
            return {"type": "text", "text": self.text}
        sent = self.file
        media = (sent.mime_type if sent else self.media_type) or "application/octet-stream"
        kind = media.partition("/")[0]
        name = sent.name if sent else self.filename
        inline = sent.bytes if sent else self.raw
        where = {"base64": inline} if inline is not None else {"url": sent.uri if sent else self.url}
        more = {"extras": {"filename": name}} if name else {}
        return {"type": kind if kind in _KINDS else "file", "mime_type": media, **where, **more}


class SentMessage(_Sent):
    """A message to an agent."""

    message_id: Annotated[Text, Field(min_length=1, max_length=500)]
    role: Literal["user", "agent", "ROLE_USER", "ROLE_AGENT"]
    parts: Annotated[list[SentPart], Field(min_length=1, max_length=1000)]
    context_id: Text = ""
    task_id: Text = ""

    @property
    def data(self) -> list[Any]:
        """Its parts that are data."""
        return [part.data for part in self.parts if part.data is not None]

    @property
    def content(self) -> str | list[dict[str, Any]]:
        """Its other parts as the content of a message of a graph."""
        blocks = [part.content() for part in self.parts if part.data is None]
        if all(block["type"] == "text" for block in blocks):
            return "\n".join(block["text"] for block in blocks)
        return blocks


class SendConfiguration(_Sent):
    """How the sender wants to be answered."""

    blocking: bool = True
    """Of version 0.3."""
    return_immediately: bool = False
    """Of version 1.0."""
    history_length: Annotated[int, Field(ge=0)] | None = None
    push_notification_config: Any = None
    """Refused: nothing is sent unasked."""
    task_push_notification_config: Any = None
    """Refused."""

    @property
    def waits(self) -> bool:
        """Whether the answer comes when the run has ended."""
        return self.blocking and not self.return_immediately

    @property
    def pushes(self) -> bool:
        """Whether the sender wants to be told unasked."""
        return self.push_notification_config is not None or self.task_push_notification_config is not None


class SendParams(_Sent):
    """Of `message/send` and `message/stream`."""

    message: SentMessage
    configuration: SendConfiguration = SendConfiguration()
    metadata: StorableObject = Field(default_factory=dict)
    """Becomes that of the run."""


class TaskParams(_Sent):
    """Of the methods about one task."""

    id: Identifier
    history_length: Annotated[int, Field(ge=0)] | None = None
