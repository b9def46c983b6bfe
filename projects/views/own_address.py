"""The page to change one's own e-mail address, and the one behind the link that confirms it."""

from __future__ import annotations

from allauth.account.decorators import reauthentication_required
from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from migrationhub.lib.findings import Problem
from projects import own_address

from .setup_common import person, posted


class AddressForm(forms.Form):
    email = forms.EmailField(
        label="New e-mail address", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


@reauthentication_required  # type: ignore[untyped-decorator]  # allauth has no types
def address(request: HttpRequest) -> HttpResponse:
    """Asked for the password first: whoever has the address gets in by “forgotten password”."""
    user, form = person(request), AddressForm(posted(request))
    if request.method == "POST" and form.is_valid():
        new = form.cleaned_data["email"]
        try:
            if settings.MAIL_SENT:
                path = reverse("address-confirm", args=[own_address.token_of(user, new)])
                link = f"{settings.SITE_URL}{path}" if settings.SITE_URL else request.build_absolute_uri(path)
                own_address.ask(user, new, link)
                said = f"A mail was sent to {new}. Open the link in it; until then nothing changes."
            else:
                own_address.change(user, new)
                said = f"{new} is your address now."
        except Problem as problem:
            form.add_error("email", f"{problem.text} {problem.act}".strip())
        else:
            messages.success(request, said)
            return redirect("account")
    return render(request, "account/address.html", {"form": form, "mail_sent": settings.MAIL_SENT})


def address_confirm(request: HttpRequest, token: str) -> HttpResponse:
    """The address changes by a press alone: mail servers open links to look at them."""
    user = person(request)
    try:
        new = own_address.read(token, user)
        if request.method == "POST":
            own_address.change(user, new)
            messages.success(request, f"{new} is your address now.")
            return redirect("account")
        own_address.check(user, new)
    except Problem as problem:
        messages.error(request, f"{problem.text} {problem.act}".strip())
        return redirect("account")
    return render(request, "account/address_confirm.html", {"address": new})
