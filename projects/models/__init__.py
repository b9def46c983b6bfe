"""People and plans."""

from .gate import Approval, ChecklistItem, Decision
from .hold import Hold
from .migration import Migration, Profile
from .project import Application, Membership, Project
from .step import Action, Step, StepAttempt
from .wave import ChangeFreeze, Wave

__all__ = [
    "Action",
    "Application",
    "Approval",
    "ChangeFreeze",
    "ChecklistItem",
    "Decision",
    "Hold",
    "Membership",
    "Migration",
    "Profile",
    "Project",
    "Step",
    "StepAttempt",
    "Wave",
]
