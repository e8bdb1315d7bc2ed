"""Markdown as HTML that cannot do anything: no HTML of its own, no pictures, no script."""

from __future__ import annotations

DEPTH = 2
"""Headings of a text stand below the heading of the section that it is in."""


def html(text: str) -> str:
    """Markdown (with tables) -> HTML. HTML in it is shown as text; pictures become links, because a page that is opened
    must ask nobody for anything."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    tokens = reader.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + DEPTH, 6)}"
    return reader.renderer.render(tokens, reader.options, {})
