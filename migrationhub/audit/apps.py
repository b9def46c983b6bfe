from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "migrationhub.audit"
    label = "audit"
