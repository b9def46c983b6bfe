"""A DNS record changed and taken back, over zones in memory: nothing that a try may have left is forgotten."""

from __future__ import annotations

from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from servers.models import NameServer, Run
from servers.operations import dns as operation
from servers.operations.base import Job, Operation
from servers.operations.dns import Dns, UndoDns
from servers.progress import Progress, State
from servers.remote import dns as remote
from servers.remote.dns_exchange import DnsProblem, TsigKey, silent
from tests import factories

pytestmark = pytest.mark.django_db

PRIMARY, SECONDARY, OTHER = "192.0.2.53", "192.0.2.54", "192.0.2.99"
DB, BD = "db.shop.lab", "bd.shop.lab"
OLD, NEW = "10.0.0.1", "10.0.0.9"


class Servers:
    """Name servers of shop.lab: addresses by server and name. A secondary follows the primary at once."""

    def __init__(self) -> None:
        self.zones: dict[str, dict[str, set[str]]] = {PRIMARY: {DB: {OLD}}}
        self.followers: dict[str, str] = {}
        self.wildcard: dict[str, set[str]] = {}  # what names without a record are answered with
        self.lose: list[str] = []  # what becomes of the next updates: "answer" or "all"
        self.down: set[str] = set()
        self.keys: list[str] = []

    def ask(self, server: str, port: int, name: dns.name.Name, rtype: str, timeout: float = 5) -> dns.message.Message:
        if server in self.down:
            raise silent(f"{server} port {port}", timeout)
        answer = dns.message.make_response(dns.message.make_query(name, rtype))
        answer.flags |= dns.flags.AA
        asked = name.to_text(omit_final_dot=True)
        values = self.zones[self.followers.get(server, server)].get(asked) or self.wildcard.get(asked, set())
        if values:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", rtype, *values))
        return answer

    def update(self, server: str, port: int, update: Any, key: TsigKey, timeout: float = 5) -> dns.rcode.Rcode:
        lost = self.lose.pop(0) if self.lose else ""
        if server in self.down or lost == "all":
            raise silent(f"{server} port {port}", timeout)
        self.keys.append(key.name)
        zone, origin = self.zones[server], update.zone[0].name
        for asked in update.prerequisite:
            values = zone.get(self.owner(asked, origin), set())
            if asked.rdclass == dns.rdataclass.NONE and values:
                return dns.rcode.YXRRSET
            if asked.rdclass == dns.rdataclass.IN and {each.to_text() for each in asked} != values:
                return dns.rcode.NXRRSET
        for told in update.update:
            if told.deleting == dns.rdataclass.ANY:
                zone.pop(self.owner(told, origin), None)
            else:
                zone.setdefault(self.owner(told, origin), set()).update(each.to_text() for each in told)
        if lost == "answer":
            raise silent(f"{server} port {port}", timeout)
        return dns.rcode.NOERROR

    @staticmethod
    def owner(rrset: Any, origin: dns.name.Name) -> str:
        return str(rrset.name.derelativize(origin).to_text(omit_final_dot=True))


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    made = Servers()
    monkeypatch.setattr(remote, "ask", made.ask)
    monkeypatch.setattr(remote, "send_update", made.update)
    monkeypatch.setattr(operation, "PROOF_PATIENCE", -1)  # a record that is not proven at once is not proven
    return made


@pytest.fixture
def entry() -> NameServer:
    key = factories.make_credential(kind="tsig", username="hub", secret="c2VjcmV0")
    return NameServer.objects.create(name="ns", address=PRIMARY, zone="shop.lab", credential=key)


def end(run: Run, work: Operation) -> Progress | DnsProblem:
    """Act until it ends, or meets a fault; what it kept is in the run's row."""
    for _ in range(9):
        try:
            run.memo, progress = work.advance(Job(run, lambda endpoint: pytest.fail("not by SSH"), dict(run.memo)))
        except DnsProblem as problem:
            finish(run, State.FAILED, str(problem), problem.code)
            return problem
        if progress.ended:
            finish(run, progress.state, progress.reason, progress.code)
            return progress
        run.save()
        run.refresh_from_db()
    pytest.fail(f"it does not end: {progress}")


def finish(run: Run, state: str, reason: str, code: str) -> None:
    run.state, run.reason, run.code, run.finished_at = state, reason, code, run.started_at
    run.save()
    run.refresh_from_db()


def change(entry: NameServer, name: str = DB, address: str = NEW, **more: Any) -> Run:
    """One try at the step, with work of its own; `earlier`: the tries before it."""
    more["earlier"] = [run.work_key for run in more.pop("earlier", [])]
    parameters = {"name_server": entry.pk, "name": name, "address": f"{address}/24", "ttl": 60, **more}
    run = factories.make_run("dns", parameters=parameters)
    end(run, Dns())
    return run


def take_back(*runs: Run, again: Run | None = None) -> Progress | DnsProblem:
    parameters = {"of": [run.work_key for run in runs]}
    same = {"work_key": again.work_key} if again else {"work_key": "m1.6.9.1.undo_dns"}
    return end(factories.make_run("undo_dns", parameters=parameters, **same), UndoDns())


def succeeded(ended: Progress | DnsProblem) -> str:
    assert isinstance(ended, Progress) and ended.state == State.SUCCEEDED, ended
    return ended.reason


def failed(ended: Progress | DnsProblem, code: str) -> str:
    assert isinstance(ended, Progress) and (ended.state, ended.code) == (State.FAILED, code), ended
    return ended.reason


def test_a_change_whose_answer_was_lost_is_taken_back(servers: Servers, entry: NameServer) -> None:
    servers.lose = ["answer"]
    run = change(entry)
    assert run.state == Run.State.FAILED and "done" not in run.memo
    assert servers.zones[PRIMARY] == {DB: {NEW}}, "it was made all the same"
    assert succeeded(take_back(run)) == f"{DB} is {OLD} again."
    assert servers.zones[PRIMARY] == {DB: {OLD}}


@pytest.mark.parametrize(("there", "words"), [({DB: {OLD}}, f"is {OLD} as before"), ({}, "has no A record as before")])
def test_a_change_that_was_never_made_is_seen_by_a_look(
    servers: Servers, entry: NameServer, there: dict[str, set[str]], words: str
) -> None:
    servers.zones[PRIMARY] = there
    servers.lose = ["all"]
    assert words in succeeded(take_back(change(entry)))
    assert servers.keys == []


def test_where_no_look_came_back_nothing_was_begun(servers: Servers, entry: NameServer) -> None:
    servers.down = {PRIMARY}
    assert succeeded(take_back(change(entry))) == "No change of a DNS record was begun."


def test_a_lost_answer_of_the_way_back_is_no_fault(servers: Servers, entry: NameServer) -> None:
    run = change(entry)
    servers.lose = ["answer"]
    assert isinstance(take_back(run), DnsProblem)
    undo = Run.objects.get(operation="undo_dns")
    assert f"is {OLD} as before" in succeeded(take_back(run, again=undo))


@pytest.mark.parametrize("told_of_the_first", [True, False])  # runs from before are not told
def test_a_second_try_does_not_make_the_new_record_the_old_one(
    servers: Servers, entry: NameServer, told_of_the_first: bool
) -> None:
    servers.lose = ["answer"]
    first = change(entry)
    second = change(entry, earlier=[first] if told_of_the_first else [])
    assert second.state == Run.State.SUCCEEDED
    assert second.memo["old"]["values"] == [OLD if told_of_the_first else NEW]
    assert succeeded(take_back(first, second)) == f"{DB} is {OLD} again."
    assert servers.zones[PRIMARY] == {DB: {OLD}}


def test_an_address_that_was_corrected_goes_back_to_the_first_one(servers: Servers, entry: NameServer) -> None:
    first = change(entry, address="10.0.0.8")
    second = change(entry, earlier=[first])
    assert servers.zones[PRIMARY] == {DB: {NEW}}
    assert succeeded(take_back(first, second)) == f"{DB} is {OLD} again."


def test_what_somebody_else_made_of_it_between_two_tries_comes_back(servers: Servers, entry: NameServer) -> None:
    first = change(entry)
    servers.zones[PRIMARY][DB] = {"10.0.0.7"}
    second = change(entry, earlier=[first])
    assert succeeded(take_back(first, second)) == f"{DB} is 10.0.0.7 again."


def test_a_corrected_name_brings_both_records_back_each_to_its_own(servers: Servers, entry: NameServer) -> None:
    first = change(entry, name=BD)
    second = change(entry, earlier=[first])
    assert servers.zones[PRIMARY] == {DB: {NEW}, BD: {NEW}}
    assert succeeded(take_back(first, second)) == f"{DB} is {OLD} again. {BD} has no A record again."
    assert servers.zones[PRIMARY] == {DB: {OLD}}


def test_somebody_elses_record_stays_and_keeps_no_other_from_coming_back(servers: Servers, entry: NameServer) -> None:
    first = change(entry, name=BD)
    second = change(entry, earlier=[first])
    servers.zones[PRIMARY][DB] = {"10.0.0.7"}
    reason = failed(take_back(first, second), "dns.conflict")
    assert f"{DB} is 10.0.0.7 at {PRIMARY} port 53, where {NEW} was expected: somebody else changed it" in reason
    assert f"set it to {OLD} there by hand, then retry" in reason
    assert servers.zones[PRIMARY] == {DB: {"10.0.0.7"}}, f"{BD} is gone again"
    servers.zones[PRIMARY][DB] = {OLD}
    again = take_back(first, second, again=Run.objects.get(operation="undo_dns"))
    assert succeeded(again) == f"{DB} is {OLD} as before. {BD} has no A record as before."


def test_a_record_that_was_right_before_is_left(servers: Servers, entry: NameServer) -> None:
    servers.zones[PRIMARY][DB] = {NEW}
    assert "was there before the change" in succeeded(take_back(change(entry)))
    assert servers.zones[PRIMARY] == {DB: {NEW}}


def test_each_record_is_proven_at_every_server_that_is_known(servers: Servers, entry: NameServer) -> None:
    NameServer.objects.update(resolvers=[SECONDARY])
    servers.followers[SECONDARY] = PRIMARY
    first = change(entry, name=BD)
    second = change(entry, earlier=[first])
    servers.followers, servers.zones[SECONDARY] = {}, {DB: {OLD}, BD: {NEW}}
    reason = failed(take_back(first, second), "dns.unproven")
    assert f"{SECONDARY} still answers: {BD} A {NEW}; expected no record" in reason
    assert DB not in reason, "that one is proven"


def moved(entry: NameServer) -> None:
    """The entry is another server's now, with another key."""
    key = factories.make_credential(kind="tsig", username="other", secret="c2VjcmV0")
    NameServer.objects.filter(pk=entry.pk).update(address=OTHER, zone="lab", credential=key)


def test_the_record_goes_back_where_it_was_changed(servers: Servers, entry: NameServer) -> None:
    run = change(entry)
    moved(entry)
    servers.zones[OTHER] = {DB: {NEW}}
    assert succeeded(take_back(run)) == f"{DB} is {OLD} again."
    assert servers.zones == {PRIMARY: {DB: {OLD}}, OTHER: {DB: {NEW}}}
    assert servers.keys == ["hub", "hub"]


def test_a_person_says_whether_a_silent_name_server_moved(servers: Servers, entry: NameServer) -> None:
    run = change(entry)
    moved(entry)
    servers.zones[OTHER], servers.down = servers.zones[PRIMARY], {PRIMARY}
    problem = take_back(run)
    assert isinstance(problem, DnsProblem) and problem.code == "dns.moved" and not problem.lasting
    assert f"entered as {OTHER} port 53 now" in problem.text and f"retry: {OTHER} port 53 is asked" in problem.act
    undo = Run.objects.get(operation="undo_dns")
    assert succeeded(take_back(run, again=undo)) == f"{DB} is {OLD} again."
    assert servers.zones[OTHER] == {DB: {OLD}} and servers.keys == ["hub", "other"]


@pytest.mark.parametrize("kept", [("old",), ("old", "done", "since")])
def test_runs_from_before_are_taken_back_at_the_server_that_is_entered(
    servers: Servers, entry: NameServer, kept: tuple[str, ...]
) -> None:
    run = change(entry)
    run.memo = {name: run.memo[name] for name in kept}
    run.save()
    assert succeeded(take_back(run)) == f"{DB} is {OLD} again."


def test_a_name_that_a_wildcard_answered_is_given_back_to_it(servers: Servers, entry: NameServer) -> None:
    name = "crm.apps.shop.lab"
    servers.wildcard = {name: {OLD}}
    first = change(entry, name=name)
    assert first.state == Run.State.SUCCEEDED and servers.zones[PRIMARY][name] == {NEW}
    again = change(entry, name=name, address="10.0.0.8", earlier=[first])
    assert succeeded(take_back(first, again)) == f"{name} is {OLD} again."
    assert name not in servers.zones[PRIMARY]
