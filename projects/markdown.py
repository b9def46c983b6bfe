"""Instructions that people write: Markdown, drawn without anything that could act."""

from __future__ import annotations

from functools import lru_cache

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

# Raw HTML in the text is shown as text; what is left is cleaned again, should the parser ever be wrong.
_PARSER = MarkdownIt("commonmark", {"html": False}).disable(["image", "heading", "lheading"])
_TAGS = {"p", "ul", "ol", "li", "strong", "em", "code", "pre", "a", "br", "blockquote", "hr"}


@lru_cache(maxsize=2048)
def rendered(text: str) -> SafeString:
    """HTML of an instruction: paragraphs, lists, emphasis, code and links (http, https, mailto), nothing else."""
    html = nh3.clean(
        _PARSER.render(text),
        tags=_TAGS,
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(html.strip())  # noqa: S308  # cleaned just above
