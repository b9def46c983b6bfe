from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    name = "projects"

    def ready(self) -> None:
        from . import account_events  # noqa: F401  # connects its receivers
        from .notify import outbox  # noqa: F401  # likewise
