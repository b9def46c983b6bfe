"""Projects, their people, their applications, and what they may use."""

from __future__ import annotations

from typing import Self

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.db.models import Q


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


class Membership(models.Model):
    class Role(models.TextChoices):
        LEAD = "lead", "Lead: plans and runs"
        OPERATOR = "operator", "Operator: runs"
        OWNER = "owner", "Application owner: sees and signs for their applications"
        MANAGER = "manager", "Manager: reads everything"

    project = models.ForeignKey("projects.Project", on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)

    class Meta:
        ordering = ["role", "user__username"]
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.project}"


class ApplicationQuerySet(models.QuerySet["Application"]):
    def visible_to(self, user: User | AnonymousUser) -> Self:
        """All of a project for lead, operator and manager; an owner's own."""
        if not user.pk:
            return self.none()
        wide = Q(project__memberships__user_id=user.pk) & ~Q(project__memberships__role=Membership.Role.OWNER)
        own = Q(owner_id=user.pk, project__memberships__user_id=user.pk)
        return self.filter(wide | own).distinct()


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
