"""Addresses of accounts, invitations, stand-ins, notifications and of the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

from allauth.account import views as allauth_views
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import include, path, re_path

from projects.views import account, notifications, setup_invitations, setup_stand_ins
from projects.views.audit import audit, audit_csv
from projects.views.join import invitation
from projects.views.own_address import address, address_confirm

P = "projects/<slug:slug>/"
View = Callable[..., HttpResponseBase]


@login_not_required
def nowhere(request: HttpRequest) -> NoReturn:
    """Of allauth's pages those that there is no use for: an address comes from the invitation that reached it."""
    raise Http404


def with_mail(view: View) -> View:
    """A page that says that a link was sent would lie where no mail is sent."""

    @login_not_required
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not settings.MAIL_SENT:
            raise Http404
        return view(request, *args, **kwargs)

    return wrapped


urlpatterns = [
    path("accounts/", account.account, name="account"),
    path("accounts/address/", address, name="address"),
    path("accounts/address/<str:token>/", address_confirm, name="address-confirm"),
    path("accounts/sessions/", account.sessions, name="sessions"),
    path("accounts/sessions/end/", account.sessions_end, name="sessions-end"),
    path("accounts/sessions/<int:pk>/end/", account.session_end, name="session-end"),
    re_path(r"^accounts/(?:email|confirm-email|login/code|password/set)/", nowhere),
    path("accounts/password/reset/", with_mail(allauth_views.password_reset), name="account_reset_password"),
    path(
        "accounts/password/reset/done/",
        with_mail(allauth_views.password_reset_done),
        name="account_reset_password_done",
    ),
    re_path(
        r"^accounts/password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        with_mail(allauth_views.password_reset_from_key),
        name="account_reset_password_from_key",
    ),
    path(
        "accounts/password/reset/key/done/",
        with_mail(allauth_views.password_reset_from_key_done),
        name="account_reset_password_from_key_done",
    ),
    path("accounts/2fa/", include("allauth.mfa.urls")),
    path("accounts/", include("allauth.account.urls")),
    path("invitations/<str:token>/", invitation, name="invitation"),
    path(P + "invitations/", setup_invitations.invitations, name="invitations"),
    path(P + "invitations/<int:pk>/renew/", setup_invitations.invitation_renew, name="invitation-renew"),
    path(P + "invitations/<int:pk>/withdraw/", setup_invitations.invitation_withdraw, name="invitation-withdraw"),
    path("audit/", audit, name="audit-all"),
    path("audit.csv", audit_csv, name="audit-all-csv"),
    path(P + "audit/", audit, name="audit"),
    path(P + "audit.csv", audit_csv, name="audit-csv"),
    path("accounts/notifications/", notifications.notices_mine, name="notices-mine"),
    path("accounts/notifications/<slug:slug>/", notifications.notices, name="notices"),
    path(P + "notifications/", notifications.notifications, name="notifications"),
    path(P + "notifications/log/", notifications.notification_log, name="notification-log"),
    path(P + "notifications/log/<int:pk>/again/", notifications.message_again, name="message-again"),
    path(P + "webhooks/new/", notifications.webhook_new, name="webhook-new"),
    path(P + "webhooks/<int:pk>/", notifications.webhook_edit, name="webhook-edit"),
    path(P + "webhooks/<int:pk>/remove/", notifications.webhook_remove, name="webhook-remove"),
    path(P + "stand-ins/", setup_stand_ins.stand_ins, name="stand-ins"),
    path(P + "stand-ins/<int:pk>/end/", setup_stand_ins.stand_in_end, name="stand-in-end"),
]
