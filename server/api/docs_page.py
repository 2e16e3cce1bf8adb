"""The API description as one plain page: no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}summary{cursor:pointer;padding:.3rem 0}code{font-size:.95em}"
    "pre{overflow-x:auto;background:#f4f4f4;padding:1rem}section{margin:2rem 0}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#151515}pre{background:#222}a{color:#9cf}}"
)

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)
"""Content security policy of the page."""


def page(description: Mapping[str, Any]) -> str:
    """The whole page."""
    title = escape(f"{description['info']['title']} {description['info']['version']}")
    return "".join(
        (
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}: API</title>",
            "<meta name=viewport content='width=device-width,initial-scale=1'>",
            f"<style>{_STYLE}</style><h1>{title}</h1><p>The same for machines: ",
            "<a href=openapi.json>openapi.json</a> (OpenAPI 3.1).</p>",
            *_sections(description),
            "</html>",
        )
    )


def _sections(description: Mapping[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            text = _operation(method, path, operation)
            by_tag.setdefault(operation.get("tags", ["other"])[0], []).append(text)
    for tag, operations in by_tag.items():
        yield f"<section><h2>{escape(tag.capitalize())}</h2>{''.join(operations)}</section>"
    yield "<section><h2>Bodies</h2>"
    for name, schema in sorted(description["components"]["schemas"].items()):
        summary = f"<summary><code>{escape(name)}</code></summary>"
        yield f"<details id='{escape(name)}'>{summary}{_fields(schema)}</details>"
    yield "</section>"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{escape(one['name'])}</code> ({escape(one['in'])}) {escape(one.get('description', ''))}"
        for one in operation.get("parameters", ())
    )
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = (body.get("items") or body).get("$ref", "").rpartition("/")[2]
    takes = f"<p>Body: <a href='#{escape(name)}'>{escape(name)}</a></p>" if name else ""
    return (
        f"<details><summary><code>{method.upper()} {escape(path)}</code> "
        f"{escape(operation.get('description', ''))}</summary><ul>{parameters}</ul>{takes}</details>"
    )


def _fields(schema: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<li><code>{escape(name)}</code> {escape(field.get('description', ''))}"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<p>{escape(schema.get('description', ''))}</p><ul>{rows}</ul>"
