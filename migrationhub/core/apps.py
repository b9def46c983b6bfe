from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Holds the project's own management commands: up, controller, demo, lab."""

    name = "migrationhub.core"
    label = "core"
