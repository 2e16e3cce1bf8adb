"""Decides calls by Cedar policies. Anything but a clean Allow is a refusal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cedarpy
import orjson

from ..errors import PolicyInvalid
from ..spec import ToolSpec
from .permissions import Principal

Action = Literal["call", "callUnreviewed"]
"""call: may it be made at all. callUnreviewed: may it be made without asking a person."""

UnknownTools = Literal["allow", "review", "refuse"]
"""What happens to a plain tool whose risk nobody declared."""

_HERE = Path(__file__).parent
DEFAULT_POLICIES = _HERE / "default.cedar"
_SCHEMA = _HERE / "interlock.cedarschema"
_CACHE_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies said."""

    allowed: bool
    reason: str
    policy_ids: tuple[str, ...] = ()
    """`@id` of the policies that decided."""


class Policies:
    """A validated policy set. Immutable: a reload makes a new one."""

    def __init__(self, text: str) -> None:
        """Parse and validate.

        Raises:
            PolicyInvalid: it does not parse, does not fit the schema, or a policy has no `@id` of its own.
        """
        schema = _SCHEMA.read_text(encoding="utf-8")
        try:
            result = cedarpy.validate_policies(text, schema)
            if not result.validation_passed:
                raise PolicyInvalid("; ".join(f"{e.policy_id}: {e.error}" for e in result.errors))
            _require_ids(text)
            self._policies = cedarpy.PolicySet.from_str(text)
            self._schema = cedarpy.Schema.from_str(schema)
        except ValueError as error:
            raise error if isinstance(error, PolicyInvalid) else PolicyInvalid(str(error)) from error
        self.version = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._entities: dict[tuple[bytes, str], cedarpy.Entities] = {}

    @classmethod
    def load(cls, paths: Iterable[Path] = ()) -> Policies:
        """Read `.cedar` files, or all of them in a folder; without any, the packaged defaults.

        Raises:
            PolicyInvalid: see the constructor, or a path that holds no policy.
        """
        files: list[Path] = []
        for path in paths:
            found = sorted(path.glob("*.cedar")) if path.is_dir() else [path]
            if not found:
                raise PolicyInvalid(f"{path} holds no .cedar file")
            files += found
        try:
            return cls("\n".join(f.read_text(encoding="utf-8") for f in files or [DEFAULT_POLICIES]))
        except OSError as error:
            raise PolicyInvalid(f"cannot read policies: {error}") from error

    def decide(
        self, action: Action, principal: Principal, spec: ToolSpec, *, context: dict[str, Any]
    ) -> Verdict:
        """Ask the policies. An error while evaluating is a refusal, even if the rest says Allow."""
        request = {
            "principal": {"type": "Interlock::User", "id": _user_id(principal)},
            "action": {"type": "Interlock::Action", "id": action},
            "resource": {"type": "Interlock::Tool", "id": spec.name},
            "context": context,
        }
        try:
            result = cedarpy.is_authorized(
                request, self._policies, self._entities_of(principal, spec), schema=self._schema
            )
        except ValueError as error:
            return Verdict(False, f"the call could not be put to the policies: {error}")
        diagnostics = result.diagnostics
        ids = diagnostics.id_annotations_by_reason
        deciding = tuple(sorted(ids.get(reason, reason) for reason in diagnostics.reasons))
        # Cedar skips a policy whose condition fails, a `forbid` too, and may then answer Allow.
        if diagnostics.errors:
            return Verdict(False, f"a policy could not be evaluated: {diagnostics.errors[0]}", deciding)
        if result.decision is not cedarpy.Decision.Allow:
            reason = f"forbidden by {', '.join(deciding)}" if deciding else "no policy permits it"
            return Verdict(False, reason, deciding)
        return Verdict(True, f"permitted by {', '.join(deciding)}", deciding)

    def _entities_of(self, principal: Principal, spec: ToolSpec) -> cedarpy.Entities:
        user = _user(principal)
        key = (orjson.dumps(user), spec.definition_hash)
        known = self._entities.get(key)
        if known is None:
            if len(self._entities) >= _CACHE_LIMIT:
                self._entities.clear()
            roles = [_entity("Role", role) for role in sorted(principal.roles)]
            text = orjson.dumps([user, _tool(spec), *roles]).decode()
            known = self._entities[key] = cedarpy.Entities.from_json_str(text, self._schema)
        return known


def _require_ids(text: str) -> None:
    policies = orjson.loads(cedarpy.policies_to_json_str(text))
    ids = [p.get("annotations", {}).get("id") for p in policies.get("staticPolicies", {}).values()]
    if not ids:
        raise PolicyInvalid("the policy set is empty, so nothing would be permitted")
    if not all(ids) or len(set(ids)) != len(ids):
        raise PolicyInvalid('every policy needs an `@id("…")` of its own: decisions are recorded by it')


def _user_id(principal: Principal) -> str:
    return f"{principal.tenant}/{principal.subject}"


def _user(principal: Principal) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "tenant": principal.tenant,
        "subject": principal.subject,
        "permissions": sorted(principal.permissions),
    }
    if principal.on_behalf_of is not None:
        attributes["onBehalfOf"] = principal.on_behalf_of
    roles = [{"type": "Interlock::Role", "id": role} for role in sorted(principal.roles)]
    return _entity("User", _user_id(principal), attributes, parents=roles)


def _tool(spec: ToolSpec) -> dict[str, Any]:
    attributes = {
        "name": spec.name,
        "version": spec.version,
        "effect": spec.effect,
        "risk": spec.risk,
        "source": spec.source,
        "permissions": sorted(spec.permissions),
        "review": spec.review,
    }
    return _entity("Tool", spec.name, attributes)


def _entity(
    kind: str,
    name: str,
    attributes: dict[str, Any] | None = None,
    *,
    parents: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    return {
        "uid": {"type": f"Interlock::{kind}", "id": name},
        "attrs": attributes or {},
        "parents": parents or [],
    }
