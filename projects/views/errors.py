"""Pages of what went wrong, where Django's own handlers know too little to say what to do."""

from __future__ import annotations

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import requires_csrf_token

from migrationhub.lib.reading import split_url

TOO_BIG = (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)


@requires_csrf_token
def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400, and 413 for what is larger than the settings allow."""
    status = 413 if isinstance(exception, TOO_BIG) else 400
    return render(request, f"{status}.html", status=status)


@requires_csrf_token
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form that is too old or not from here, with the way back to its page."""
    came_from = split_url(request.headers.get("Referer", ""))
    here = came_from.netloc == request.get_host() and came_from.scheme in ("http", "https")
    back = came_from.path + (f"?{came_from.query}" if came_from.query else "") if here else ""
    return render(request, "403_csrf.html", {"back": back}, status=403)
