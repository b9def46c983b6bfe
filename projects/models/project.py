"""Projects, their people, their applications, and what they may use."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from .gate import Approval


class ProjectQuerySet(models.QuerySet["Project"]):
    def visible_to(self, user: User | AnonymousUser) -> Self:
        return self.filter(memberships__user_id=user.pk).distinct() if user.pk else self.none()


class Project(models.Model):
    name = models.CharField(max_length=100, unique=True)
    slug = models.SlugField(max_length=60, unique=True)
    time_zone = models.CharField(max_length=60, default="UTC")  # IANA name, for people
    description = models.TextField(blank=True)
    # What the project may use; a grant is made by whoever entered it.
    credentials = models.ManyToManyField("servers.Credential", blank=True, related_name="projects")
    platforms = models.ManyToManyField("servers.Platform", blank=True, related_name="projects")
    name_servers = models.ManyToManyField("servers.NameServer", blank=True, related_name="projects")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ProjectQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class MembershipQuerySet(models.QuerySet["Membership"]):
    def wide(self, user: User | AnonymousUser) -> models.QuerySet[Membership, int]:
        """Keys of the projects in which the person sees everything, and not only what they answer for."""
        wide = self.filter(user_id=user.pk or 0).exclude(role=Membership.Role.OWNER)
        return wide.order_by().values_list("project", flat=True)


class Membership(models.Model):
    class Role(models.TextChoices):
        LEAD = "lead", "Lead: plans and runs"
        OPERATOR = "operator", "Operator: runs"
        OWNER = "owner", "Application owner: sees and signs for their applications"
        MANAGER = "manager", "Manager: reads everything"

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        ordering = ["role", "user__username"]
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.project}"


class ApplicationQuerySet(models.QuerySet["Application"]):
    def visible_to(self, user: User | AnonymousUser, wave: int | None = None) -> Self:
        """All of a project for lead, operator and manager; else those that the person answers for, and those of which
        a sign-off was handed to them. `wave`: as far as they move in it (`seen_in_wave`)."""
        if not user.pk:
            return self.none()
        handed = Approval.objects.handed_to(user)
        if wave is not None:
            handed = handed.filter(wave=wave)
        answered = Q(pk__in=self.model.objects.signed_by(user)) | Q(pk__in=handed.order_by().values("application"))
        return self.filter(Q(project__in=Membership.objects.wide(user)) | answered)

    def signed_by(self, user: User | AnonymousUser) -> models.QuerySet[Application, int]:
        """Keys of the applications that somebody answers for in the role of an application owner: as theirs, or now in
        an absent owner's place."""
        now = timezone.now()
        in_place = Q(
            stand_ins__person_id=user.pk,
            stand_ins__owner=F("owner"),
            stand_ins__starts_at__lte=now,
            stand_ins__ends_at__gt=now,
            stand_ins__ended_at=None,
        )
        mine = Membership.objects.filter(user_id=user.pk or 0, role=Membership.Role.OWNER).values("project")
        found = self.filter(Q(owner_id=user.pk or 0) | in_place, project__in=mine)
        return found.order_by().values_list("pk", flat=True)


def seen_in_wave(user: User | AnonymousUser) -> Q:
    """Rows with `project`, `application` and `wave` that a person sees: of a project that they read whole, of an
    application that they answer for; and, of one whose sign-off was handed to them, those of that one wave."""
    if not user.pk:
        return Q(pk__in=[])
    handed = Approval.objects.handed_to(user).filter(application=OuterRef("application"), wave=OuterRef("wave"))
    answered = Q(application__in=Application.objects.signed_by(user)) | Q(Exists(handed))
    return Q(project__in=Membership.objects.wide(user)) | answered


class Application(models.Model):
    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="applications")
    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=60)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="applications"
    )
    description = models.TextField(blank=True)
    access_note = models.TextField(blank=True)  # how a tester reaches the clone, in plain words
    # This application's cutover events wait until those of these are proven.
    waits_for = models.ManyToManyField("self", symmetrical=False, blank=True, related_name="awaited_by")

    objects = ApplicationQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["project", "slug"], name="application_slug_once"),
            models.UniqueConstraint(fields=["project", "name"], name="application_name_once"),
        ]

    def __str__(self) -> str:
        return self.name
