from django.apps import AppConfig


class MigrationhubConfig(AppConfig):
    """Holds the project's own management commands: up, controller, demo, lab."""

    name = "migrationhub"
