"""The stand-in: as unhelpful as a real appliance, and whole again after its own restart."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from migrationhub.lab.vme.catalog import Catalog
from migrationhub.lab.vme.settings import Settings
from migrationhub.lab.vme.store import hosts_by_instance, read_journal
from servers.platforms.base import Nic
from servers.platforms.vme.create import Create
from tests.lab.vme.standin import StandIn, made, run


class Http:
    """Raw requests with a token, as no client of ours would send them."""

    def __init__(self, standin: StandIn, username: str = "svc-migrationhub") -> None:
        self.standin = standin
        access = standin.access(username)
        form = {
            "grant_type": "password",
            "client_id": "morph-api",
            "scope": "write",
            "username": username,
            "password": access.password,
        }
        self.token = self.send("POST", "/oauth/token", data=form).json()

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token['access_token']}"} if hasattr(self, "token") else {}
        return requests.request(
            method, self.standin.url + path, headers=headers, verify=str(self.standin.ca), timeout=30, **more
        )

    def create_body(self, **more: Any) -> dict[str, Any]:
        return Create(self.standin.platform().client, "k", self.standin.spec(**more)).request()


def test_ids_are_its_own_and_the_same_after_a_restart(standin: StandIn, tmp_path: Any) -> None:
    def ids(name: str) -> list[Any]:
        catalog = Catalog(Settings(name=name, directory=tmp_path, kind="process"))
        return [*catalog.networks, catalog.group["id"], catalog.layout["id"], *catalog.plans, *catalog.images]

    assert ids("one") == ids("one") and ids("one") != ids("two")
    assert len(set(ids("one"))) == len(ids("one"))
    before = standin.network("migration")
    standin.restart()
    assert standin.network("migration") == before


def test_secrets_are_private_files(standin: StandIn) -> None:
    Http(standin)
    for name in ("account.json", "reader.json", "server.key", "state.json"):
        assert stat.S_IMODE((standin.settings.directory / name).stat().st_mode) == 0o600, name
    assert json.loads((standin.settings.directory / "account.json").read_text())["username"] == "svc-migrationhub"


# -- tokens ---------------------------------------------------------------------------------------------------


def test_a_second_log_in_gets_the_same_token_with_what_is_left_of_it(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin(token_seconds=100.0)
    first = Http(standin).token
    standin.appliance.store.state["tokens"][0]["ends"] -= 50
    second = Http(standin).token
    assert second["access_token"] == first["access_token"] and 45 <= second["expires_in"] <= 50


def test_tokens_end_and_are_refused_as_hpe_does(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin(token_seconds=100.0)
    http = Http(standin)
    assert http.send("GET", "/api/whoami").status_code == 200
    standin.appliance.store.state["tokens"][0]["ends"] -= 100
    refused = http.send("GET", "/api/whoami")
    assert refused.status_code == 401 and refused.json()["error"] == "invalid_token"
    assert http.token["access_token"] in refused.json()["error_description"]  # it echoes, as the real one
    form = {"grant_type": "refresh_token", "client_id": "morph-api", "refresh_token": http.token["refresh_token"]}
    renewed = http.send("POST", "/oauth/token", data=form)
    assert renewed.status_code == 200 and renewed.json()["access_token"] != http.token["access_token"]
    assert http.send("POST", "/oauth/token", data=form).status_code == 400  # a refresh token serves once


def test_tokens_outlive_a_restart(standin: StandIn) -> None:
    http = Http(standin)
    standin.restart()
    assert http.send("GET", "/api/whoami").status_code == 200


def test_who_asks_without_a_token_is_nobody(standin: StandIn) -> None:
    answer = requests.get(f"{standin.url}/api/instances", verify=str(standin.ca), timeout=30)
    assert answer.status_code == 401 and answer.json()["error"] == "unauthorized"
    assert requests.get(f"{standin.url}/api/ping", verify=str(standin.ca), timeout=30).json()["buildVersion"] == ""


# -- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "address", "words"),
    [
        ("Storage VLAN 90", "", "Invalid network"),
        ("Retired VLAN 7", "", "Invalid network"),
        ("Production VLAN 20", "", "You must enter an ip address"),
        ("Production VLAN 20", "127.101.9.9", "Invalid ip address"),
    ],
)
def test_a_network_that_does_not_fit_is_the_documented_400(
    standin: StandIn, network: str, address: str, words: str
) -> None:
    http = Http(standin)
    body = http.create_body(network_id=standin.network_named(network), ip_address=address)
    answer = http.send("POST", "/api/instances", json=body)
    assert answer.status_code == 400
    assert answer.json() == {
        "success": False,
        "msg": "Failed to create instance",
        "errors": {"networkInterfaces": words},
    }
    assert standin.backend.calls == [] and not standin.effective("create")


def test_the_first_volume_must_be_the_root(standin: StandIn) -> None:
    http = Http(standin)
    body = http.create_body()
    body["volumes"].reverse()
    answer = http.send("POST", "/api/instances", json=body)
    assert answer.status_code == 400 and "volumes" in answer.json()["errors"]


def test_a_name_is_unique_powered_off_machines_included(standin: StandIn) -> None:
    external_id = made(standin)
    platform = standin.platform()
    run(lambda memo: platform.advance_power("off", external_id, "off", memo))
    http = Http(standin)
    answer = http.send("POST", "/api/instances", json=http.create_body())
    assert answer.status_code == 400 and answer.json()["errors"] == {"name": "Name must be unique"}


def test_rights_are_enforced_on_what_changes(standin: StandIn) -> None:
    external_id = made(standin)
    http = Http(standin, "svc-reader")
    assert http.send("GET", f"/api/instances/{external_id}").status_code == 200
    for method, path in (
        ("POST", "/api/instances"),
        ("PUT", f"/api/instances/{external_id}/stop"),
        ("PUT", f"/api/instances/{external_id}/resize"),
        ("DELETE", f"/api/instances/{external_id}"),
        ("POST", f"/api/execution-request/execute?instanceId={external_id}"),
    ):
        answer = http.send(method, path, json={})
        assert answer.status_code == 403 and not answer.json()["success"], path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/nothing", 404), ("POST", "/api/whoami", 405), ("GET", "/api/instances/99999", 404)],
)
def test_what_is_not_there_is_said_in_json(standin: StandIn, method: str, path: str, status: int) -> None:
    answer = Http(standin).send(method, path)
    assert answer.status_code == status and answer.json()["success"] is False


# -- instances --------------------------------------------------------------------------------------------------


def test_its_answer_comes_before_the_work_and_the_address_after_the_start(
    make_standin: Callable[..., StandIn],
) -> None:
    standin = make_standin(duration=2.0)  # long enough for a look on a crowded machine
    http = Http(standin)
    made_body = http.send("POST", "/api/instances", json=http.create_body()).json()["instance"]
    assert made_body["status"] == "provisioning" and made_body["servers"] == []
    assert made_body["connectionInfo"] == [{"ip": "0.0.0.0", "port": 22}]
    path = f"/api/instances/{made_body['id']}"
    seen = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        body = http.send("GET", path).json()["instance"]
        state = (body["status"], body["connectionInfo"][0]["ip"])
        if not seen or seen[-1] != state:
            seen.append(state)
        if state[1] != "0.0.0.0":
            break
        time.sleep(0.01)
    assert seen == [("provisioning", "0.0.0.0"), ("running", "0.0.0.0"), ("running", "127.101.2.100")]


def test_transient_addresses_are_in_their_range_and_given_back(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin(first=100, last=101)
    platform = standin.platform()
    one, _two = made(standin, "one"), made(standin, "two")
    assert [address for _, address in standin.addresses] == ["127.101.2.100", "127.101.2.101"]
    run(lambda memo: platform.advance_delete("d", one, memo))
    made(standin, "three")
    assert standin.addresses[-1] == ("three", "127.101.2.100")
    assert len(standin.backend.hosts) == 2


def test_a_clone_never_takes_a_sources_place_in_the_lab(standin: StandIn) -> None:
    from migrationhub.lab.hosts import HostSpec

    standin.backend.create(HostSpec("shop-db", "shop-db", ()))
    external_id = made(standin, "shop-db")
    host = standin.appliance.store.state["instances"][external_id]["host"]
    assert host != "shop-db" and standin.backend.hosts["shop-db"].power == "off"
    assert standin.backend.hosts[host].spec.image == "base"
    assert hosts_by_instance(standin.settings.directory) == {"shop-db": host}
    assert hosts_by_instance(standin.settings.directory / "nowhere") == {}


def test_a_resize_touches_no_guest_and_renames_the_interface(standin: StandIn) -> None:
    external_id = made(standin)
    platform = standin.platform()
    run(lambda memo: platform.advance_power("off", external_id, "off", memo))
    standin.backend.calls.clear()
    nics = (Nic(standin.network("production"), address="127.101.1.55"),)
    run(lambda memo: platform.advance_connect("k", external_id, nics, memo))
    assert standin.backend.calls == [("attach", "shop-db-vme")]


def test_a_resize_to_what_is_has_no_effect(standin: StandIn) -> None:
    external_id = made(standin)
    http = Http(standin)
    before = http.send("GET", f"/api/instances/{external_id}").json()["instance"]
    nic = before["containerDetails"][0]["server"]["interfaces"][0]
    body = {
        "instance": {"id": int(external_id), "plan": {"id": before["plan"]["id"]}},
        "networkInterfaces": [{"id": nic["id"], "network": {"id": f"network-{nic['network']['id']}"}}],
    }
    answer = http.send("PUT", f"/api/instances/{external_id}/resize", json=body)
    assert answer.status_code == 200 and not standin.effective("resize")
    body["networkInterfaces"][0]["id"] = 99999
    answer = http.send("PUT", f"/api/instances/{external_id}/resize", json=body)
    assert answer.status_code == 400 and "99999" in answer.json()["errors"]["networkInterfaces"]


def test_only_the_service_is_stopped_without_server_true(standin: StandIn) -> None:
    external_id = made(standin)
    Http(standin).send("PUT", f"/api/instances/{external_id}/stop?server=false")
    assert standin.backend.power("shop-db-vme") == "on" and not standin.effective("stop")


def test_a_machine_that_went_off_by_itself_is_noticed_late(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin(power_sync=3)
    external_id = made(standin)
    http = Http(standin)

    def status() -> str:
        return str(http.send("GET", f"/api/instances/{external_id}").json()["instance"]["status"])

    assert status() == "running"
    standin.backend.hosts["shop-db-vme"].power = "off"
    assert status() == "running"
    time.sleep(3.1)
    assert status() == "stopped"


def test_a_busy_instance_takes_no_second_change(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin(duration=0.5)
    external_id = made(standin)
    http = Http(standin)
    assert http.send("PUT", f"/api/instances/{external_id}/stop?server=true").status_code == 200
    assert http.send("PUT", f"/api/instances/{external_id}/start?server=true").status_code == 409


# -- restart and journal ------------------------------------------------------------------------------------------


def test_pending_acts_go_on_after_a_restart(make_standin: Callable[..., StandIn]) -> None:
    standin = make_standin(duration=0.5)
    platform, spec = standin.platform(), standin.spec()
    memo, _ = platform.advance_create("k", spec, {})
    standin.restart()
    assert standin.appliance.store.state["pending"]
    _, progress = run(lambda memo: platform.advance_create("k", spec, memo), memo)
    assert progress.state == "succeeded" and len(standin.backend.hosts) == 1


def test_a_script_that_ran_during_a_restart_is_told_as_failed(standin: StandIn) -> None:
    external_id = made(standin)
    platform = standin.platform()
    memo, _ = platform.advance_execute("k", external_id, "uname", {})
    run(lambda memo: platform.advance_execute("k", external_id, "uname", memo), memo)
    deadline = time.monotonic() + 10
    while standin.appliance.store.state["pending"]:  # the request ends a moment before its act does
        assert time.monotonic() < deadline
        time.sleep(0.02)
    request = standin.appliance.store.state["requests"][memo["unique_id"]]
    process = standin.appliance.store.state["processes"][-1]
    request |= {"status": "running", "rc": None}  # as a crash leaves it: begun, not ended
    pending = {
        "act": "execute",
        "instance_id": int(external_id),
        "process_id": process["id"],
        "unique_id": memo["unique_id"],
        "script": "uname",
    }
    standin.appliance.store.state["pending"][str(process["id"])] = pending
    standin.appliance.store.save()
    standin.restart()
    _, progress = run(lambda memo: platform.advance_execute("k", external_id, "uname", memo), memo)
    assert progress.state == "failed" and "restarted while the script ran" in progress.reason


def test_the_journal_tells_who_asked_for_what_and_whether_it_did_something(standin: StandIn) -> None:
    external_id = made(standin)
    http = Http(standin)
    http.send("PUT", f"/api/instances/{external_id}/start?server=true")
    http.send("POST", "/api/instances", json={})
    entries = [entry for entry in standin.journal if entry["kind"] == "request"]
    assert [(one["act"], one["effective"], one["work_key"]) for one in entries] == [
        ("create", True, "create-shop-db-vme"),
        ("start", False, ""),
        ("refused", False, ""),
    ]
    assert entries[0]["instance"] == int(external_id) and entries[0]["method"] == "POST"
    ends = [entry for entry in standin.journal if entry["kind"] == "end"]
    assert [(one["act"], one["ok"]) for one in ends] == [("create", True)]


def test_a_repeated_key_would_be_found_and_a_cut_line_does_no_harm(standin: StandIn) -> None:
    made(standin, "one")
    assert standin.repeated_keys() == []
    standin.appliance.store.journal.write(kind="request", work_key="create-one", act="create", effective=True)
    with standin.appliance.store.journal.path.open("a") as file:
        file.write('{"kind": "requ')
    assert standin.repeated_keys() == ["create-one"]
    assert len(read_journal(standin.appliance.store.journal.path)) == len(standin.journal)


def test_a_name_server_that_fails_does_not_fail_the_machine(standin: StandIn) -> None:
    def broken(name: str, address: str) -> None:
        raise OSError("named is down")

    standin.appliance.work.on_address = broken
    made(standin)
    noted = [entry for entry in standin.journal if entry["kind"] == "address"]
    assert noted[0]["error"] == "OSError: named is down"


def test_paging_is_hpes(standin: StandIn) -> None:
    http = Http(standin)
    answer = http.send("GET", "/api/networks?max=3&offset=2").json()
    assert answer["meta"] == {"offset": 2, "max": 3, "size": 2, "total": 4} and len(answer["networks"]) == 2
    assert http.send("GET", "/api/networks").json()["meta"]["max"] == 25
