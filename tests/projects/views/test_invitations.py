"""Invitations: sent, taken once by whoever has the mailbox, and told in words where they do not count."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from migrationhub.audit.models import AuditEvent
from projects import invitations as verbs
from projects.models import Application, Invitation, Membership, Project
from tests import factories

from .conftest import House

pytestmark = pytest.mark.django_db
NEW = {"username": "nina", "full_name": "Nina Novak", "password": "quite long enough", "again": "quite long enough"}


def text(response: Any) -> str:
    return unescape(response.content.decode())


def invite(house: House, **over: Any) -> Invitation:
    values = {"email": "nina@example.com", "role": "operator", "application": None, **over}
    return verbs.invite(project=house.project, user=house.lead, **values)


def address(invitation: Invitation) -> str:
    return reverse("invitation", args=[verbs.token_of(invitation)])


@override_settings(MAIL_SENT=True)
def test_a_person_is_invited_makes_an_account_and_is_in(house: House) -> None:
    data = {"email": "Nina@Example.com", "role": "operator", "application": ""}
    said = text(house.client("lead").post(reverse("invitations", args=[house.project.slug]), data, follow=True))
    assert "The invitation was sent to nina@example.com." in said
    (message,) = mail.outbox
    assert message.to == ["nina@example.com"]
    assert "Lea Adler invites you into the project Basel exit" in message.body
    link = next(word for word in message.body.split() if "/invitations/" in word)
    assert link in message.alternatives[0].content
    client = Client()
    assert "Join Basel exit" in text(client.get(link))
    welcome = text(client.post(link, NEW, follow=True))
    assert "You are a member of Basel exit now." in welcome
    nina = User.objects.get(username="nina")
    assert (nina.email, nina.get_full_name()) == ("nina@example.com", "Nina Novak")
    assert Membership.objects.get(user=nina).role == "operator"
    assert client.get(reverse("progress", args=[house.project.slug])).status_code == 200
    verbs_told = list(AuditEvent.objects.order_by("pk").values_list("verb", flat=True))
    assert [verb for verb in verbs_told if verb != "account.login"] == [
        "invitation.create",
        "account.create",
        "invitation.accept",
        "member.add",
    ]
    assert NEW["password"] not in str(list(AuditEvent.objects.values()))
    assert "was used on" in text(Client().get(link))


def test_without_mail_the_lead_hands_the_link_over(house: House) -> None:
    data = {"email": "nina@example.com", "role": "manager"}
    said = text(house.client("lead").post(reverse("invitations", args=[house.project.slug]), data, follow=True))
    assert "was not sent: no mail leaves here" in said
    link = re.search(r"http://testserver(/invitations/[^/\"<]+/)", said)
    assert link is not None, "it stands on the page"
    assert "nina@example.com" in text(Client().get(link[1]))
    assert mail.outbox == []


@override_settings(MAIL_SENT=True, SITE_URL="https://hub.example")
def test_links_in_mails_lead_to_the_site(house: House) -> None:
    house.client("lead").post(
        reverse("invitations", args=[house.project.slug]), {"email": "nina@example.com", "role": "manager"}
    )
    assert re.search(r"https://hub\.example/invitations/[^/]+/", str(mail.outbox[0].body))


class Refusing(EmailBackend):
    def send_messages(self, messages: Any) -> int:
        raise ConnectionRefusedError(111, "Connection refused")


@override_settings(MAIL_SENT=True, MAILERS={"default": {"BACKEND": f"{__name__}.Refusing"}})
def test_a_mail_that_could_not_be_sent_is_told_with_its_reason(house: House) -> None:
    page = reverse("invitations", args=[house.project.slug])
    said = text(house.client("lead").post(page, {"email": "nina@example.com", "role": "manager"}, follow=True))
    assert "could not be sent (ConnectionRefusedError: [Errno 111] Connection refused)" in said
    assert Invitation.objects.get().sent_at is None


def test_somebody_with_an_account_joins_by_logging_in(house: House) -> None:
    nina = factories.make_user("nina", email="nina@example.com", log_in=True)
    invitation = invite(house, role="owner")
    client, link = Client(), address(invitation)  # signed anew each second
    page = text(client.get(link))
    assert "There is an account with nina@example.com" in page and 'name="username"' not in page
    client.post(f"{reverse('account_login')}?next={link}", {"login": "nina", "password": "x"})
    back = client.post(
        f"{reverse('account_login')}?next={link}",
        {"login": "nina", "password": factories.PASSWORD},
    )
    assert back["Location"] == link
    assert "Join as nina" in text(client.get(back["Location"]))
    client.post(back["Location"])
    assert Membership.objects.get(user=nina, project=house.project).role == "owner"


def test_an_account_that_is_switched_off_is_told_so(house: House) -> None:
    """It can neither log in nor be made once more."""
    factories.make_user("nina", email="Nina@example.com", is_active=False)
    link = address(invite(house))
    for said in (text(Client().get(link)), text(Client().post(link, NEW))):
        assert "The account with nina@example.com is switched off" in said
        assert 'name="username"' not in said and "There is an account" not in said
    assert User.objects.filter(email__iexact="nina@example.com").count() == 1


def test_an_account_without_address_gets_the_one_that_it_proved(house: House) -> None:
    nina = factories.make_user("nina")
    client = Client()
    client.force_login(nina, "django.contrib.auth.backends.ModelBackend")
    client.post(address(invite(house)))
    nina.refresh_from_db()
    assert nina.email == "nina@example.com"
    event = AuditEvent.objects.get(verb="account.email_change")
    assert (event.actor, event.before, event.after) == (nina, {"email": ""}, {"email": "nina@example.com"})


def test_an_account_without_address_gets_none_that_another_account_has(house: House) -> None:
    factories.make_user("nora", email="Nina@Example.com")
    nina = factories.make_user("nina")
    client = Client()
    client.force_login(nina, "django.contrib.auth.backends.ModelBackend")
    link = address(invite(house))
    assert "logged in as nina, and another account has that address" in text(client.get(link))
    assert "logged in as nina, and another account has that address" in text(client.post(link))
    nina.refresh_from_db()
    assert nina.email == "" and not Membership.objects.filter(user=nina).exists()
    assert Invitation.objects.get().accepted_at is None


@override_settings(MAIL_SENT=True)
def test_a_project_whose_name_has_two_lines_invites_all_the_same(house: House) -> None:
    """As one may be stored from before such names were refused."""
    Project.objects.filter(pk=house.project.pk).update(name="Basel exit\nBcc: x@example.com")
    page = reverse("invitations", args=[house.project.slug])
    said = text(house.client("lead").post(page, {"email": "nina@example.com", "role": "manager"}, follow=True))
    assert "The invitation was sent to nina@example.com." in said
    (message,) = mail.outbox
    assert message.subject == "[migrationhub] Basel exit Bcc: x@example.com: you are invited"
    assert message.recipients() == ["nina@example.com"]


def test_an_invitation_for_another_address_is_refused_in_words(house: House) -> None:
    eve = factories.make_user("eve", email="eve@example.com")
    client = Client()
    client.force_login(eve, "django.contrib.auth.backends.ModelBackend")
    link = address(invite(house))
    assert "This invitation is for another address" in text(client.get(link))
    said = text(client.post(link))
    assert "you are logged in as eve with eve@example.com" in said
    assert not Membership.objects.filter(user=eve).exists()


def test_what_does_not_count_is_told_in_words(house: House) -> None:
    invitation = invite(house)
    old = address(invitation)
    verbs.renew(invitation, user=house.lead)
    now = address(invitation)
    assert "A newer e-mail with another link" in text(Client().get(old))
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    said = Client().get(now)
    assert said.status_code == 410
    assert "This invitation ended on" in text(said) and "Ask Lea Adler for a new one." in text(said)
    verbs.withdraw(invitation, user=house.lead)
    assert "was taken back" in text(Client().get(now))
    assert "no link of an invitation that we sent" in text(Client().get(now[:-3] + "/"))
    assert Client().post(now, NEW).status_code == 410
    assert not User.objects.filter(username="nina").exists()


def test_of_two_who_take_it_at_the_same_time_one_wins(house: House) -> None:
    invitation = invite(house)
    one, two = (factories.make_user(email=invitation.email) for _ in range(2))
    verbs.accept(Invitation.objects.get(pk=invitation.pk), user=one)
    with pytest.raises(verbs.Problem, match="a moment ago"):
        verbs.accept(invitation, user=two)
    assert not Membership.objects.filter(user=two).exists()


def second_lead(house: House) -> Membership:
    ben = factories.make_user("ben", first_name="Ben", last_name="Bader", email="ben@example.com")
    factories.make_member(house.project, "lead", ben)
    return Membership.objects.get(user=ben)


def leave(house: House, member: Membership, how: str) -> None:
    """In the browser, as the other lead does it."""
    args, lead = [house.project.slug, member.pk], house.client("lead")
    if how == "removed":
        lead.post(reverse("member-remove", args=args))
    else:
        lead.post(reverse("member-role", args=args), {"role": how})


@pytest.mark.parametrize("how", ["removed", "operator"])
def test_who_leads_no_more_invites_no_more(house: House, how: str) -> None:
    ben = second_lead(house)
    made = verbs.invite(project=house.project, user=ben.user, email="nina@example.com", role="lead", application=None)
    used = verbs.invite(
        project=house.project, user=ben.user, email="otto@example.com", role="manager", application=None
    )
    verbs.accept(used, user=factories.make_user("otto", email="otto@example.com"))
    others = invite(house, email="mark@example.com")
    link = address(made)
    leave(house, ben, how)
    said = Client().get(link)
    assert said.status_code == 410
    assert "taken back; Ben Bader, who sent it, does not lead Basel exit any more." in text(said)
    assert "Ask a lead of Basel exit for a new one." in text(said)
    assert Client().post(link, NEW).status_code == 410
    assert not User.objects.filter(username="nina").exists()
    states = {each.pk: each.state for each in Invitation.objects.all()}
    assert states == {made.pk: "withdrawn", used.pk: "accepted", others.pk: "open"}
    event = AuditEvent.objects.get(verb="invitation.withdraw")
    assert (event.object_id, event.actor, event.project_id) == (str(made.pk), house.lead, house.project.pk)
    assert "ben, who sent it, does not lead" in event.why


def test_who_was_removed_does_not_come_back_by_an_old_link(house: House) -> None:
    """Invited, then added by user name, then removed: the link ends with the membership."""
    nina = factories.make_user("nina", email="Nina@example.com")
    made, others = invite(house, role="lead"), invite(house, email="mark@example.com")
    factories.make_member(house.project, "operator", nina)
    leave(house, Membership.objects.get(user=nina), "removed")
    client = Client()
    client.force_login(nina, "django.contrib.auth.backends.ModelBackend")
    assert "was taken back" in text(client.post(address(made)))
    with pytest.raises(verbs.Problem, match="a moment ago"):
        verbs.accept(made, user=nina)
    assert not Membership.objects.filter(user=nina).exists()
    assert {each.pk: each.state for each in Invitation.objects.all()} == {made.pk: "withdrawn", others.pk: "open"}
    event = AuditEvent.objects.get(verb="invitation.withdraw")
    assert (event.actor, event.why) == (house.lead, "nina left Basel exit")
    assert verbs.accept(invite(house), user=nina), "who is invited anew comes back"


def test_another_role_that_leads_still_takes_nothing_back(house: House) -> None:
    ben = second_lead(house)
    made = verbs.invite(
        project=house.project, user=ben.user, email="nina@example.com", role="manager", application=None
    )
    leave(house, ben, "lead")
    assert Client().get(address(made)).status_code == 200


def test_an_invitation_that_was_not_taken_back_does_not_outlive_its_inviter_either(house: House) -> None:
    """Made in the very moment in which the inviter was removed."""
    ben = second_lead(house)
    made = verbs.invite(project=house.project, user=ben.user, email="nina@example.com", role="lead", application=None)
    Membership.objects.filter(pk=ben.pk).delete()
    said = text(Client().get(address(made)))
    assert "does not count any more: Ben Bader, who sent it, does not lead Basel exit any more." in said
    with pytest.raises(verbs.Problem, match="a moment ago"):
        verbs.accept(made, user=factories.make_user("nina", email="nina@example.com"))
    assert not Membership.objects.filter(user__username="nina").exists()
    # Another lead who sends it again is who invites.
    house.client("lead").post(reverse("invitation-renew", args=[house.project.slug, made.pk]))
    made.refresh_from_db()
    assert made.by == house.lead
    assert Client().get(address(made)).status_code == 200


FAULTY = [
    ({"username": "lea"}, "User name “lea” is taken."),
    ({"username": "a b"}, "User name “a b”: Enter a valid username."),
    ({"password": "short", "again": "short"}, "This password is too short."),
    ({"again": "another one entirely"}, "The two passwords differ."),
    ({"full_name": ""}, "Your name is empty."),
]


@pytest.mark.parametrize(("wrong", "words"), FAULTY)
def test_an_account_that_cannot_be_is_refused_by_field(house: House, wrong: dict[str, str], words: str) -> None:
    client, invitation = Client(), invite(house)
    said = text(client.post(address(invitation), {**NEW, **wrong}))
    assert words in said
    assert NEW["password"] not in said
    assert not User.objects.filter(email="nina@example.com").exists()
    invitation.refresh_from_db()
    assert invitation.state == "open"


def test_an_owner_gets_the_application_that_waits_for_one(house: House) -> None:
    bare = Application.objects.create(project=house.project, name="Mail", slug="mail")
    data = {"email": "nina@example.com", "role": "owner", "application": bare.pk}
    house.client("lead").post(reverse("invitations", args=[house.project.slug]), data)
    client = Client()
    client.post(address(Invitation.objects.get()), NEW)
    bare.refresh_from_db()
    assert bare.owner is not None
    assert bare.owner.username == "nina"


def test_an_owner_who_was_named_meanwhile_stays(house: House) -> None:
    """Both links were read while nobody owned it: reading and joining are apart, as a password is hashed between."""
    bare = Application.objects.create(project=house.project, name="Mail", slug="mail")
    made = [invite(house, email=f"{name}@example.com", role="owner", application=bare) for name in ("nina", "otto")]
    read = [verbs.read(verbs.token_of(each)) for each in made]
    nina, otto = (factories.make_user(each.email.partition("@")[0], email=each.email) for each in made)
    verbs.accept(read[0], user=nina)
    assert verbs.accept(read[1], user=otto), "they join all the same"
    bare.refresh_from_db()
    assert bare.owner == nina
    assert AuditEvent.objects.filter(verb="application.change").count() == 1


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"email": "nonsense"}, "E-mail address “nonsense”:"),
        ({"role": "king"}, "Role “king”:"),
        ({"email": "nina@example.com"}, "is invited into Basel exit already"),
        ({"email": "omar@example.com"}, "belongs to a member of Basel exit already"),
    ],
)
def test_an_invitation_that_makes_no_sense_is_refused(house: House, over: dict[str, str], words: str) -> None:
    User.objects.filter(pk=house.operator.pk).update(email="omar@example.com")
    invite(house)
    data = {"email": "other@example.com", "role": "operator", **over}
    assert words in text(house.client("lead").post(reverse("invitations", args=[house.project.slug]), data))
    assert Invitation.objects.count() == 1


def test_an_application_is_for_an_owner(house: House) -> None:
    bare = Application.objects.create(project=house.project, name="Mail", slug="mail")
    data = {"email": "nina@example.com", "role": "manager", "application": bare.pk}
    said = text(house.client("lead").post(reverse("invitations", args=[house.project.slug]), data))
    assert "is for an application owner alone" in said
