"""All addresses."""

from typing import NoReturn

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest
from django.urls import include, path, re_path


@login_not_required
def nowhere(request: HttpRequest) -> NoReturn:
    """No mail is sent: a page that says that a link was sent would lie. `manage.py account` sets a password."""
    raise Http404


urlpatterns = [
    re_path(r"^accounts/(?:password/reset|email|confirm-email)/", nowhere),
    path("accounts/", include("allauth.account.urls")),
    path("", include("projects.urls")),
]
