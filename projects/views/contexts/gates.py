"""How approvals and holds are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

from projects import approvals, digest
from projects.models import Application, Approval, BreakGlass, Decision, Defect, Hold
from projects.offers import Offer
from projects.steps.base import Lane
from projects.templatetags.hub import person

SIGNS = {
    Approval.State.REQUESTED: "ready",
    Approval.State.APPROVED: "done",
    Approval.State.REJECTED: "failed",
    Approval.State.MORE_TIME: "held",
    Approval.State.STALE: "relook",
    Approval.State.EXPIRED: "failed",
    Approval.State.PASSED: "glass",
}
# Which answer makes a state: a later one of somebody else may not have changed it.
BY = {
    Approval.State.APPROVED: Decision.Verdict.APPROVE,
    Approval.State.REJECTED: Decision.Verdict.REJECT,
    Approval.State.MORE_TIME: Decision.Verdict.MORE_TIME,
}
NOTHING_ASKED = ("waiting", "Waits for the sign-off and the test")  # sign and word of a go that is about nothing
NAMES = {Approval.Gate.SIGN_OFF: "Sign-off", Approval.Gate.GO: "Go"}


@dataclass
class Gate:
    """One decision of one application in a wave, asked for or not yet."""

    name: str
    application: Application
    approval: Approval | None
    state: str
    word: str
    last: Decision | None = None  # that made the state what it is, or the newest
    changes: list[str] = field(default_factory=list)  # since the last answer, where it needs another look
    offers: list[Offer] = field(default_factory=list)
    left: str = ""  # "1 of 2 signatures", where more than one is needed
    signatures: list[Decision] = field(default_factory=list)  # the yeses that count now, where more than one is needed

    @property
    def last_by(self) -> str:
        """Who gave that answer, and for whom, where it was in another's place."""
        return decided_by(self.last) if self.last else ""


def gates_of(lanes: list[Lane], offers: list[Offer]) -> list[Gate]:
    """Sign-off and go of the application whose lanes these are. Offers go to the gate that they answer."""
    application = lanes[0].migration.application
    if application is None:
        return []
    made = []
    for gate in (Approval.Gate.SIGN_OFF, Approval.Gate.GO):
        approval = lanes[0].approvals.get(gate)
        codes = ("sign", "reject", "more-time") if gate == Approval.Gate.SIGN_OFF else ("go",)
        mine = [offer for offer in offers if offer.code in codes]
        made.append(_gate(gate, application, approval, mine))
    return made


def _gate(gate: str, application: Application, approval: Approval | None, offers: list[Offer]) -> Gate:
    name = NAMES[Approval.Gate(gate)]
    if approval is None:
        return Gate(name, application, None, "waiting", "Not asked yet")
    last = next(iter(approval.decisions.all()), None)
    changes = []
    if last is not None and last.digest != approval.digest:
        changes = digest.difference(last.subject, approval.subject)
    said = (*approvals.words(approval).values(), *approval.decisions.all())  # whose word counts first
    made_it = next((each for each in said if each.verdict == BY.get(Approval.State(approval.state))), None)
    state, word = SIGNS[Approval.State(approval.state)], approval.get_state_display()
    if not approval.digest:
        state, word = NOTHING_ASKED
    left = approvals.left_words(approval)
    signed = approvals.signatures(approval) if left else []
    return Gate(name, application, approval, state, word, made_it or last, changes, offers, left, signed)


def decided_by(decision: Decision) -> str:
    """Who said it: "Anna Muster for Ben Huber", where somebody answered in another's place."""
    name = person(decision.user)
    return f"{name} for {person(decision.on_behalf_of)}" if decision.on_behalf_of else name


def passes_of(lanes: list[Lane]) -> list[BreakGlass]:
    """Break-glass of the lanes' applications, each once, the loudest first."""
    seen = {each.pk: each for lane in lanes for each in lane.passes}
    order = list(BreakGlass.State.values)  # unconfirmed, in order, not in order
    loudest = {order[0]: 0, order[2]: 1, order[1]: 2}
    return sorted(seen.values(), key=lambda each: (loudest[each.state], -each.pk))


def defects_of(lanes: list[Lane]) -> list[Defect]:
    """Unsettled defects of the lanes' applications, each once, blocking ones first."""
    seen = {each.pk: each for lane in lanes for each in lane.defects}
    return sorted(seen.values(), key=lambda each: (Defect.Severity.values.index(each.severity), each.number))


def open_holds(lanes: list[Lane]) -> list[Hold]:
    """Each hold once, however many servers it holds. Windows and change freezes have no row of their own."""
    seen: dict[tuple[object, ...], Hold] = {}
    for lane in lanes:
        for hold in lane.holds:
            seen.setdefault((hold.pk,) if hold.pk else (hold.kind, hold.why), hold)
    return list(seen.values())
