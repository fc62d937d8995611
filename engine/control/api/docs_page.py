"""The OpenAPI document as one plain page: readable without a network, a script or a style sheet from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c }
code, pre { font: 14px/1.4 ui-monospace, monospace }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
details { border: 1px solid #ddd; border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer } summary b { display: inline-block; min-width: 4.5rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top }
"""


def docs_page(document: dict[str, Any]) -> str:
    """Render the document."""
    sections: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["Service"])[0]
            sections.setdefault(tag, []).append(_operation(document, path, method, operation))
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        '<p>For machines: <a href="/openapi.json">/openapi.json</a></p>',
    ]
    for tag, operations in sections.items():
        parts += [f"<h2>{escape(tag)}</h2>", *operations]
    return "\n".join(parts)


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code><br>",
        f"{escape(operation.get('description', ''))}</summary>",
    ]
    rows = [
        f"<tr><td><code>{escape(it['name'])}</code><td>{it['in']}<td>{escape(_kind(it['schema']))}"
        f"<td>{escape(it.get('description', ''))}"
        for it in operation.get("parameters", [])
    ]
    if rows:
        parts.append(f"<table>{''.join(rows)}</table>")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        parts.append(f"<p>Body:{_fields(document, body['schema'])}")
    for code, answer in operation["responses"].items():
        content = answer.get("content", {}).get("application/json", {})
        parts.append(f"<p>{code}: {escape(answer.get('description', ''))}")
        if code == "200" and "schema" in content:
            parts.append(_fields(document, content["schema"]))
    return "".join([*parts, "</details>"])


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> str:
    schema = _followed(document, schema)
    required = set(schema.get("required", []))
    rows = [
        f"<tr><td><code>{escape(name)}</code><td>{escape(_kind(it))}"
        f"<td>{'required' if name in required else ''}"
        for name, it in schema.get("properties", {}).items()
    ]
    return f"<table>{''.join(rows)}</table>" if rows else f" {escape(_kind(schema))}"


def _followed(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for choice in schema.get("anyOf", []):
        if "$ref" in choice:
            schema = choice
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_kind(it) for it in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    bounds = [
        f"{name} {schema[name]}" for name in ("minimum", "maximum", "maxLength") if name in schema
    ]
    return f"{kind} ({', '.join(bounds)})" if bounds else kind
