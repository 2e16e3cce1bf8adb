"""Which Python types may lie in a checkpoint, and how they come back: the same type or an error.

The format is the one of LangGraph's `JsonPlusSerializer`. What may be named in it is a closed list:

- the types that LangGraph calls safe, and data types of langchain_core and langgraph;
- the types in the schemas of the graph, and data types of the packages that define those schemas;
- data types of modules that the project brings itself, not installed ones;
- names that were registered.

A data type is a pydantic model, a dataclass, an enum or a named tuple. Nothing is imported to load a
value: the module must be there already. Anything else is refused, when it is written and when it is
read. LangGraph's own serializer would call whatever is named, or return a dict or None instead.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from typing import Any, cast
from weakref import WeakKeyDictionary

import ormsgpack
from langgraph._internal._serde import build_serde_allowlist
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_METHODS, SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.jsonplus import (
    EXT_CONSTRUCTOR_KW_ARGS,
    EXT_CONSTRUCTOR_POS_ARGS,
    EXT_CONSTRUCTOR_SINGLE_ARG,
    EXT_DELTA_SNAPSHOT,
    EXT_METHOD_SINGLE_ARG,
    EXT_NUMPY_ARRAY,
    EXT_PYDANTIC_V1,
    EXT_PYDANTIC_V2,
    JsonPlusSerializer,
    _msgpack_default,
    _msgpack_ext_hook,
    _option,
)
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.pregel import Pregel
from langgraph.types import Send
from pydantic import BaseModel

from .errors import SealingFailed
from .sealed import unreadable

TypeName = tuple[str, str]
"""Module and name."""

_EXT_TEXT = 60
"""A string with lone surrogates, which msgpack cannot hold: UTF-8 with them passed through."""
_EXT_INTEGER = 61
"""An integer of more than 64 bits, as decimal text."""
_OPTION = _option & ~ormsgpack.OPT_REPLACE_SURROGATES
_LOAD_OPTION = ormsgpack.OPT_NON_STR_KEYS
_FOUNDATIONS = frozenset({"langchain_core", "langgraph"})
_NEVER_A_PROJECT = frozenset({"builtins", "typing", "typing_extensions", "pydantic", "langchain"})
_SECRETS = frozenset({("pydantic.types", "SecretStr"), ("pydantic.types", "SecretBytes")})
_COLLECTIONS = (set, frozenset, deque)


class UnknownType(Exception):
    """A checkpoint names a type that it may not hold, or holds one that cannot be rebuilt."""


@dataclasses.dataclass(slots=True)
class _Exact:
    """A value on its way into an ext type of ours."""

    code: int
    body: bytes


class StrictSerializer(JsonPlusSerializer):
    """Writes and reads channel values; refuses types outside its list."""

    def __init__(self, *, types: Iterable[TypeName] = (), packages: Collection[str] = ()) -> None:
        super().__init__(allowed_msgpack_modules=None)
        self._types = _SECRETS.union(types)
        self._packages = _FOUNDATIONS | set(packages)
        self._resolved: dict[TypeName, Callable[..., Any]] = {}

    def with_msgpack_allowlist(self, extra_allowlist: Iterable[tuple[str, ...] | type]) -> StrictSerializer:
        """A serializer that accepts more types; LangGraph calls it when it knows some."""
        extra = {
            (item.__module__, item.__name__) if isinstance(item, type) else cast("TypeName", item)
            for item in extra_allowlist
        }
        if extra <= self._types | SAFE_MSGPACK_TYPES:
            return self
        return StrictSerializer(types=self._types | extra, packages=self._packages)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Serialise a value.

        Raises:
            UnknownType: the value holds something that could not be read again.
        """
        if obj is None:
            return "null", b""
        if isinstance(obj, (bytes, bytearray)):
            return type(obj).__name__, bytes(obj)
        writer = _Writer(self)
        try:
            return "msgpack", writer.pack(obj)
        except ormsgpack.MsgpackEncodeError:
            if writer.refusal is not None:
                raise writer.refusal from None
        # A surrogate, a big integer or a circle. Rare, so looking at every value may be slow.
        writer = _CarefulWriter(self)
        try:
            return "msgpack", writer.pack(obj)
        except ormsgpack.MsgpackEncodeError as error:
            raise writer.refusal or UnknownType(f"the value cannot be stored: {error}") from None

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Rebuild a value.

        Raises:
            UnknownType: it names a type outside the list, or one that cannot be rebuilt.
            SealingFailed: it cannot be decrypted.
        """
        kind, body = data
        if reason := unreadable(body):
            raise SealingFailed(reason)
        match kind:
            case "null":
                return None
            case "bytes":
                return body
            case "bytearray":
                return bytearray(body)
            case "msgpack":
                reader = _Reader(self)
                try:
                    return reader.unpack(body)
                except ormsgpack.MsgpackDecodeError as error:
                    raise reader.refusal or UnknownType(f"the value cannot be read: {error}") from None
            case _:
                raise UnknownType(f"values of the form {kind!r} are not read")

    def check(self, kind: type) -> None:
        """Refuse to write what could not be read again.

        Raises:
            UnknownType: it is not on the list, or not found under its name.
        """
        if self.resolve(kind.__module__, kind.__name__) is not kind:
            raise UnknownType(
                f"{kind.__module__}.{kind.__qualname__} is not what is found under that name; "
                "define it at the top level of its module"
            )

    def resolve(self, module: str, name: str) -> Callable[..., Any]:
        """What a checkpoint means by a module and a name.

        Raises:
            UnknownType: it is not on the list.
        """
        key = (module, name)
        if key in self._resolved:
            return self._resolved[key]
        if key in SAFE_MSGPACK_TYPES:
            found = getattr(importlib.import_module(module), name)
        else:
            found = getattr(sys.modules.get(module), name, None)
            if not isinstance(found, type):
                raise UnknownType(f"there is no class {module}.{name}; was it moved or renamed?")
            if key not in self._types and not (_is_data_type(found) and self._is_own(module)):
                raise UnknownType(
                    f"{module}.{name} may not be stored: name it in the schema of the graph's state"
                )
        self._resolved[key] = found
        return found

    def _is_own(self, module: str) -> bool:
        """Whether a module belongs to the project or to what the graph is made of."""
        if module.partition(".")[0] in self._packages:
            return True
        file = getattr(sys.modules[module], "__file__", None)
        return file is not None and not file.startswith(_installed_folders())


class _Writer:
    """One serialisation. msgpack forgets why it was stopped, so `refusal` remembers."""

    def __init__(self, serializer: StrictSerializer) -> None:
        self._serializer = serializer
        self.refusal: UnknownType | None = None

    def pack(self, value: Any) -> bytes:
        return ormsgpack.packb(value, default=self._default, option=_OPTION)

    def _default(self, value: Any) -> Any:
        try:
            return self._reduced(value)
        except UnknownType as refusal:
            self.refusal = refusal
            raise

    def _reduced(self, value: Any) -> Any:
        """How a value that msgpack does not know is written: its type and what rebuilds it."""
        kind = type(value)
        name = (kind.__module__, kind.__name__)
        if isinstance(value, BaseModel):
            self._serializer.check(kind)
            fields = {**value.__dict__, **(value.__pydantic_extra__ or {})}
            return ormsgpack.Ext(EXT_PYDANTIC_V2, self.pack((*name, fields, "model_validate_json")))
        if isinstance(value, _DeltaSnapshot):
            return ormsgpack.Ext(EXT_DELTA_SNAPSHOT, self.pack(value.value))
        if isinstance(value, Enum):
            self._serializer.check(kind)
            return ormsgpack.Ext(EXT_CONSTRUCTOR_SINGLE_ARG, self.pack((*name, value.value)))
        if isinstance(value, _COLLECTIONS):
            return ormsgpack.Ext(EXT_CONSTRUCTOR_SINGLE_ARG, self.pack((*name, tuple(value))))
        if isinstance(value, tuple):
            self._serializer.check(kind)
            return ormsgpack.Ext(EXT_CONSTRUCTOR_KW_ARGS, self.pack((*name, cast("Any", value)._asdict())))
        if isinstance(value, Send):
            arguments = (value.node, value.arg, *([value.timeout] if value.timeout is not None else []))
            return ormsgpack.Ext(EXT_CONSTRUCTOR_POS_ARGS, self.pack((*name, arguments)))
        if dataclasses.is_dataclass(value):
            self._serializer.check(kind)
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return ormsgpack.Ext(EXT_CONSTRUCTOR_KW_ARGS, self.pack((*name, fields)))
        if hasattr(value, "get_secret_value") or hasattr(value, "dict"):
            self._serializer.check(kind)
        try:
            return _msgpack_default(value)
        except TypeError as error:
            raise UnknownType(f"{kind.__module__}.{kind.__qualname__} may not be stored") from error


class _CarefulWriter(_Writer):
    """Replaces what msgpack cannot hold before it sees it."""

    def pack(self, value: Any) -> bytes:
        return super().pack(_exact(value, 0))

    def _default(self, value: Any) -> Any:
        if isinstance(value, _Exact):
            return ormsgpack.Ext(value.code, value.body)
        return super()._default(value)


class _Reader:
    """One deserialisation. msgpack forgets why it was stopped, so `refusal` remembers."""

    def __init__(self, serializer: StrictSerializer) -> None:
        self._serializer = serializer
        self.refusal: UnknownType | None = None

    def unpack(self, body: bytes) -> Any:
        return ormsgpack.unpackb(body, ext_hook=self._rebuild, option=_LOAD_OPTION)

    def _rebuild(self, code: int, body: bytes) -> Any:
        try:
            return self._rebuilt(code, body)
        except UnknownType as refusal:
            self.refusal = refusal
            raise

    def _rebuilt(self, code: int, body: bytes) -> Any:
        if code == _EXT_TEXT:
            return bytes(body).decode("utf-8", "surrogatepass")
        if code == _EXT_INTEGER:
            return int(body)
        if code == EXT_DELTA_SNAPSHOT:
            return _DeltaSnapshot(self.unpack(body))
        if code == EXT_NUMPY_ARRAY:
            return _msgpack_ext_hook(code, body)
        module, name, content, *method = self.unpack(body)
        kind = self._serializer.resolve(module, name)
        if code == EXT_METHOD_SINGLE_ARG:
            if (module, name, method[0]) not in SAFE_MSGPACK_METHODS:
                raise UnknownType(f"{module}.{name}.{method[0]} may not be called to read a checkpoint")
            return getattr(kind, method[0])(content)
        try:
            return _built(code, kind, content)
        except (TypeError, ValueError) as error:
            raise UnknownType(f"{module}.{name} cannot be rebuilt from what is stored: {error}") from error


_of_graphs: WeakKeyDictionary[Pregel, StrictSerializer] = WeakKeyDictionary()
"""Looking through the schemas of a graph takes longer than a step of it."""


def serializer_of(graph: Pregel) -> StrictSerializer:
    """The serializer for a graph's state: its schemas and those of its sub-graphs extend the list."""
    if (known := _of_graphs.get(graph)) is not None:
        return known
    names: set[TypeName] = set()
    packages: set[str] = set()
    for part in (graph, *(found for _, found in graph.get_subgraphs(recurse=True))):
        if not isinstance(part, Pregel):
            # A remote graph keeps its own state.
            continue
        schemas = _schemas(part)
        allowed = build_serde_allowlist(schemas=schemas, channels=cast("dict[str, Any]", part.channels))
        names |= cast("set[TypeName]", allowed)
        packages |= {schema.__module__.partition(".")[0] for schema in schemas}
    made = _of_graphs[graph] = StrictSerializer(types=names, packages=packages - _NEVER_A_PROJECT)
    return made


def _schemas(graph: Pregel) -> list[type]:
    builder = getattr(graph, "builder", None)
    if builder is None:
        return []
    found = [builder.state_schema, builder.input_schema, builder.output_schema, builder.context_schema]
    found += [node.input_schema for node in builder.nodes.values()]
    found += [b.input_schema for branches in builder.branches.values() for b in branches.values()]
    return [schema for schema in found if isinstance(schema, type)]


def _built(code: int, kind: Callable[..., Any], content: Any) -> Any:
    if code == EXT_CONSTRUCTOR_SINGLE_ARG:
        return kind(content)
    if code == EXT_CONSTRUCTOR_POS_ARGS:
        return kind(*content)
    if code in (EXT_PYDANTIC_V1, EXT_PYDANTIC_V2):
        try:
            return kind(**content)
        except (TypeError, ValueError):
            # Valid when it was written; a stricter model of today must not make the state unreadable.
            return cast("type[BaseModel]", kind).model_construct(**content)
    if code == EXT_CONSTRUCTOR_KW_ARGS:
        return _with_fields(kind, content)
    raise UnknownType(f"unknown code {code}")


def _with_fields(kind: Callable[..., Any], content: dict[str, Any]) -> Any:
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    set_later = {field.name for field in fields if not field.init} & content.keys()
    built = cast("Callable[..., Any]", kind)(
        **{name: value for name, value in content.items() if name not in set_later}
    )
    for name in set_later:
        object.__setattr__(built, name, content[name])
    return built


def _exact(value: Any, depth: int) -> Any:
    """`value` with what msgpack cannot hold replaced; objects are opened later, by `_reduced`."""
    if depth > 250:
        raise UnknownType("the value is nested too deeply, or holds itself")
    kind = type(value)
    if kind is str:
        return _Exact(_EXT_TEXT, value.encode("utf-8", "surrogatepass")) if _broken(value) else value
    if kind is int:
        big = not -(2**63) <= value < 2**64
        return _Exact(_EXT_INTEGER, b"%d" % value) if big else value
    if kind is list or kind is tuple:
        return [_exact(item, depth + 1) for item in value]
    if kind is dict:
        return {whole(key) if type(key) is str else key: _exact(v, depth + 1) for key, v in value.items()}
    return value


def whole(text: str) -> str:
    """`text` with U+FFFD for lone surrogates."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_data_type(kind: type) -> bool:
    return (
        issubclass(kind, (BaseModel, Enum))
        or dataclasses.is_dataclass(kind)
        or (issubclass(kind, tuple) and hasattr(kind, "_asdict"))
    )


def _installed_folders() -> tuple[str, ...]:
    return tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
