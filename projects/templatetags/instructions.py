"""How instructions are drawn."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from projects.markdown import rendered

register = template.Library()


@register.filter
def markdown(text: str) -> SafeString:
    """An instruction in Markdown as clean HTML."""
    return rendered(text)
