"""People and plans."""

from .attachment import Attachment
from .break_glass import BreakGlass
from .checklist import ChecklistItem, ChecklistTemplate, Holds, ItemRole, TemplateItem
from .defect import Defect
from .gate import Approval, ApprovalPolicy, Decision
from .hold import Hold
from .invitation import Invitation
from .migration import Migration, Profile
from .notice import Message, Notice, NoticeKind, NoticeSettings, Part, ProjectNotices, Webhook
from .project import Application, Membership, Project
from .stand_in import StandIn
from .step import Action, Step, StepAttempt
from .wave import ChangeFreeze, Wave

__all__ = [
    "Action",
    "Application",
    "Approval",
    "ApprovalPolicy",
    "Attachment",
    "BreakGlass",
    "ChangeFreeze",
    "ChecklistItem",
    "ChecklistTemplate",
    "Decision",
    "Defect",
    "Hold",
    "Holds",
    "Invitation",
    "ItemRole",
    "Membership",
    "Message",
    "Migration",
    "Notice",
    "NoticeKind",
    "NoticeSettings",
    "Part",
    "Profile",
    "Project",
    "ProjectNotices",
    "StandIn",
    "Step",
    "StepAttempt",
    "TemplateItem",
    "Wave",
    "Webhook",
]
