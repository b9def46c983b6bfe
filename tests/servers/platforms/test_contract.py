"""Our requests and the stand-in's answers against HPE's OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from servers.platforms.base import Nic, PlatformAccess, PlatformProblem
from servers.platforms.vme import answers, lookups, shapes, tokens
from servers.platforms.vme.client import Client
from servers.platforms.vme.create import Create
from tests.lab.vme.standin import StandIn, run
from tests.servers.platforms import openapi
from tests.servers.platforms.openapi import Document, present

pytestmark = pytest.mark.skipif(
    not openapi.document_path().exists(),
    reason=f"HPE's OpenAPI document is not at {openapi.document_path()} (VME_OPENAPI names another place)",
)

# What we send although the document does not have it, and why. Nothing else is allowed.
EXTRA_PROPERTIES = {
    ("POST", "/api/instances"): {
        "instance.type": "in every create example of the document, missing in its schema",
        "config.imageId": "the image: HPE's Terraform provider and packer plugin send it",
        "config.createBackup": "HPE's Terraform provider sends it; without it a policy may add a backup",
    },
    ("PUT", "/api/instances/{id}/resize"): {
        "instance.id": "in the document's example of a resize, missing in its schema",
    },
}
EXTRA_PARAMETERS = {
    "/api/instances/service-plans": {"resourcePoolId": "HPE's CLI sends it; plans depend on the pool"},
    "/api/options/{optionSource}": {
        "zoneId": "what an option source takes is not in the document; HPE's CLI sends these",
        "groupId": "as zoneId",
        "layoutId": "as zoneId",
    },
    "/api/zones/{zoneId}/data-stores": {"max": "every list pages so", "offset": "every list pages so"},
    "/api/networks": {"max": "every list pages so", "offset": "every list pages so"},
    "/api/servers": {"max": "every list pages so", "offset": "every list pages so"},
    "/api/processes": {"max": "every list pages so", "offset": "every list pages so"},
}
# Answers whose schema the document gets wrong against its own prose or examples, and why.
LOOSE_ANSWERS = {
    "/api/execution-request/execute": "stdOut, stdErr and exitCode are null until it ends (HPE's CLI shows so)",
    "/api/execution-request/{uniqueId}": "as above",
}
# What our client reads from each answer: in the document's schema and in the stand-in's answers.
READS = {
    ("POST", "/oauth/token"): ["access_token", "refresh_token", "expires_in"],
    ("GET", "/api/whoami"): ["user.username", "permissions[].code", "permissions[].access", "appliance.buildVersion"],
    ("GET", "/api/health"): ["health.buildVersion"],
    ("GET", "/api/license"): ["license.maxMvm", "license.hardLimit", "license.endDate", "currentUsage.mvm"],
    ("GET", "/api/groups"): ["groups[].id", "groups[].name", "groups[].zones", "meta.total"],
    ("GET", "/api/zones"): ["zones[].id", "zones[].name", "zones[].status", "zones[].zoneType.code"],
    ("GET", "/api/options/{optionSource}"): ["data[].name", "data[].value"],
    ("GET", "/api/instance-types"): [
        "instanceTypes[].code",
        "instanceTypes[].instanceTypeLayouts[].id",
        "instanceTypes[].instanceTypeLayouts[].name",
        "instanceTypes[].instanceTypeLayouts[].provisionTypeCode",
    ],
    ("GET", "/api/instances/service-plans"): [
        "plans[].id",
        "plans[].name",
        "plans[].maxCores",
        "plans[].maxMemory",
        "plans[].rootStorageTypes[].id",
        "plans[].rootStorageTypes[].defaultType",
    ],
    ("GET", "/api/networks"): [
        "networks[].id",
        "networks[].name",
        "networks[].active",
        "networks[].zonePool.id",
        "networks[].vlanId",
        "networks[].cidr",
        "meta.total",
    ],
    ("GET", "/api/virtual-images"): ["virtualImages[].id", "virtualImages[].name", "virtualImages[].status"],
    ("GET", "/api/zones/{zoneId}/data-stores"): [
        "datastores[].id",
        "datastores[].name",
        "datastores[].freeSpace",
        "datastores[].online",
    ],
    ("GET", "/api/servers"): ["servers[].id", "servers[].name", "servers[].powerState"],
    ("GET", "/api/instances/{id}"): [
        "instance.id",
        "instance.uuid",
        "instance.name",
        "instance.status",
        "instance.labels",
        "instance.servers",
        "instance.plan.id",
        "instance.errorMessage",
        "instance.connectionInfo[].ip",
        "instance.containerDetails[].server.id",
        "instance.containerDetails[].server.powerState",
        "instance.containerDetails[].server.interfaces[].id",
        "instance.containerDetails[].server.interfaces[].ipAddress",
        "instance.containerDetails[].server.interfaces[].macAddress",
        "instance.containerDetails[].server.interfaces[].primaryInterface",
        "instance.containerDetails[].server.interfaces[].network.id",
    ],
    ("POST", "/api/instances"): ["instance.id", "instance.uuid", "instance.status"],
    ("PUT", "/api/instances/{id}/resize"): ["success"],
    ("GET", "/api/instances/{id}/snapshots"): ["snapshots[].id", "snapshots[].name", "snapshots[].status"],
    ("GET", "/api/processes"): [
        "processes[].id",
        "processes[].status",
        "processes[].startDate",
        "processes[].events[].status",
        "processes[].events[].error",
    ],
    ("POST", "/api/execution-request/execute"): ["executionRequest.uniqueId", "executionRequest.status"],
    ("GET", "/api/execution-request/{uniqueId}"): [
        "executionRequest.status",
        "executionRequest.exitCode",
        "executionRequest.stdOut",
        "executionRequest.stdErr",
    ],
}
# Read although the document has no schema for it.
READ_WITHOUT_SCHEMA = {
    "/api/options/{optionSource}",  # name and value only; providerType and isGroup are HPE's CLI's knowledge
}


@dataclass(frozen=True)
class Exchange:
    method: str
    path: str
    query: set[str]
    body: Any
    form: dict[str, str] | None
    status: int
    answer: Any


@pytest.fixture(scope="module")
def document() -> Document:
    return openapi.load()


@pytest.fixture
def exchanges(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exchange]]:
    """Every exchange of a client in a whole life of an instance, good answers and refusals."""
    seen: list[Exchange] = []
    whole = Client._exchange

    def note(self: Client, method: str, path: str, **request: Any) -> requests.Response:
        answer = whole(self, method, path, **request)
        seen.append(
            Exchange(
                method,
                urlsplit(path).path,
                set(request.get("params") or {}),
                request.get("json"),
                request.get("data"),
                answer.status_code,
                answer.json(),
            )
        )
        return answer

    monkeypatch.setattr(Client, "_exchange", note)
    life(standin)
    yield seen


def life(standin: StandIn) -> None:
    platform, spec = standin.platform(), standin.spec()
    assert not [one for one in platform.check(spec, standin.network("production")) if one.level == "blocking"]
    platform.client.get("/api/ping")
    external_id = str(run(lambda memo: platform.advance_create("create", spec, memo))[1].result["external_id"])
    platform.check(spec)
    platform.find(spec.label)
    run(lambda memo: platform.advance_execute("execute", external_id, "true", memo))
    run(lambda memo: platform.advance_power("off", external_id, "off", memo))
    nics = (Nic(standin.network("production"), address="127.101.1.55"),)
    run(lambda memo: platform.advance_connect("connect", external_id, nics, memo))
    run(lambda memo: platform.advance_power("on", external_id, "on", memo))
    snapshot = run(lambda memo: platform.advance_snapshot("snapshot", external_id, "one", memo))[1]
    run(lambda memo: platform.advance_revert("revert", external_id, snapshot.result["snapshot_id"], memo))
    standin.appliance.tokens.expire()
    platform.client.get("/api/groups")
    platform.groups(), platform.zones(spec.group_id), platform.layouts(), platform.images()
    platform.pools(spec.zone_id, spec.group_id, spec.layout_id)
    platform.plans(spec.zone_id, spec.layout_id, spec.group_id, spec.pool_id)
    platform.networks(spec.zone_id, spec.pool_id), platform.datastores(spec.zone_id)
    with pytest.raises(PlatformProblem):
        platform.client.change(
            "POST",
            "/api/instances",
            work_key="bad",
            body=Create(platform.client, "bad", standin.spec("bad", network_id="network-1")).request(),
        )
    run(lambda memo: platform.advance_delete("delete", external_id, memo))
    assert platform.get(external_id) is None


def test_requests_and_answers_are_as_published(document: Document, exchanges: list[Exchange]) -> None:
    wrong: set[str] = set()
    used_extras: set[tuple[str, str]] = set()
    for one in exchanges:
        found = document.operation(one.method, one.path)
        if found is None:
            wrong.add(f"{one.method} {one.path} is not in the document")
            continue
        template, operation = found
        where = f"{one.method} {template}"
        extra = one.query - document.parameters(template, operation) - set(EXTRA_PARAMETERS.get(template, {}))
        wrong |= {f"{where}: parameter {name} is unknown" for name in extra}
        wrong |= {f"{where} request: {problem}" for problem in request_problems(document, one, operation)}
        if one.body is not None and (schema := document.request_schema(operation)):
            unknown = set(document.unknown(schema, one.body))
            used_extras |= {(template, name) for name in unknown}
            unknown -= set(EXTRA_PROPERTIES.get((one.method, template), {}))
            wrong |= {f"{where}: property {name} is unknown" for name in unknown}
        schema = document.answer_schema(operation, one.status)
        if schema and template not in LOOSE_ANSWERS:
            wrong |= {f"{where} {one.status}: {problem}" for problem in document.invalid(schema, one.answer)}
    assert not wrong, "\n".join(sorted(wrong))
    listed = {(template, name) for (_, template), names in EXTRA_PROPERTIES.items() for name in names}
    assert used_extras == listed, "the list of extras names what we do not send"
    assert {one.status for one in exchanges} >= {200, 400, 401, 404}


def request_problems(document: Document, one: Exchange, operation: dict[str, Any]) -> list[str]:
    if one.form is not None:
        schema = document.request_schema(operation, "application/x-www-form-urlencoded")
        assert schema is not None
        return document.invalid(schema, one.form)
    schema = document.request_schema(operation)
    if one.body is None:
        return []
    return ["a body where none is published"] if schema is None else document.invalid(schema, one.body)


def test_what_we_read_is_published_and_answered(document: Document, exchanges: list[Exchange]) -> None:
    missing = []
    for (method, template), names in READS.items():
        operation = document.paths[template][method.lower()]
        schema = document.answer_schema(operation, 200)
        bodies = [
            one.answer
            for one in exchanges
            if one.method == method
            and one.status == 200
            and (document.operation(method, one.path) or ("",))[0] == template
        ]
        assert bodies, f"{method} {template} was never called"
        for name in names:
            if template not in READ_WITHOUT_SCHEMA and not document.knows(schema, name):
                missing.append(f"{method} {template}: {name} is not in the document")
            if not any(present(body, name) for body in bodies):
                missing.append(f"{method} {template}: {name} is not in the stand-in's answers")
    assert not missing, "\n".join(missing)


def test_every_operation_that_we_call_is_covered(document: Document, exchanges: list[Exchange]) -> None:
    called = set()
    for one in exchanges:
        if found := document.operation(one.method, one.path):
            called.add((one.method, found[0]))
    only_success = {
        ("GET", "/api/ping"),
        ("PUT", "/api/instances/{id}/stop"),
        ("PUT", "/api/instances/{id}/start"),
        ("PUT", "/api/instances/{id}/snapshot"),
        ("PUT", "/api/instances/{id}/revert-snapshot/{snapshotId}"),
        ("DELETE", "/api/instances/{id}"),
        ("GET", "/api/instances"),  # its items are those of /api/instances/{id}
    }
    assert called - only_success == set(READS)


def test_a_property_that_hpe_does_not_know_would_be_found(document: Document) -> None:
    schema = document.request_schema(document.paths["/api/instances"]["post"])
    assert schema is not None
    sent = {"instance": {"name": "x", "nme": 1}, "networkInterfaces": [{"network": {"id": "network-1"}, "vlan": 2}]}
    assert set(document.unknown(schema, sent)) == {"instance.nme", "networkInterfaces[].vlan"}
    assert any("site" in problem for problem in document.invalid(schema, sent))
    assert not document.knows(schema, "instance.nme") and document.knows(schema, "networkInterfaces[].network.id")


# -- HPE's own examples through our eyes ------------------------------------------------------------------------


def test_the_examples_of_instances_are_read(document: Document) -> None:
    examples = document.examples("get", "/api/instances/{id}")
    assert examples
    for example in examples:
        body = example["instance"]
        instance = shapes.instance_from(body)
        assert instance.external_id == str(body["id"]) and instance.uuid == body["uuid"]
        assert instance.status == body["status"] and instance.plan_id == str(body["plan"]["id"])
        assert instance.server_id == str(body["servers"][0])
        assert all(nic.network_id.startswith("network") for nic in instance.nics)
        assert shapes.address_of(instance, body) != "0.0.0.0"
    for example in document.examples("get", "/api/instances"):
        assert all(shapes.instance_from(body).name for body in example["instances"])


def test_the_example_of_a_placeholder_address_is_no_address(document: Document) -> None:
    body = document.examples("get", "/api/instances/{id}")[0]["instance"]
    assert body["connectionInfo"][0]["ip"] == "0.0.0.0"
    instance = shapes.instance_from({**body, "containerDetails": []})
    assert shapes.address_of(instance, {**body, "containerDetails": []}) == ""


def test_the_example_of_a_token_is_read(document: Document) -> None:
    example = document.examples("post", "/oauth/token")[0]
    token = tokens.token_from(example, lambda: 100.0)
    assert token is not None and token.access == example["access_token"]
    assert token.expires_at == 100.0 + example["expires_in"] and token.usable(100.0)


class Canned(Client):
    """A client that is answered with examples."""

    def __init__(self, bodies: dict[str, Any]) -> None:
        super().__init__(PlatformAccess("VME", "https://vme.example.com", "u", "p"))
        self.bodies = bodies

    def get(self, path: str, params: Any = None, *, anonymous: bool = False) -> dict[str, Any]:
        return dict(self.bodies[path])


def test_the_examples_of_lists_are_read(document: Document) -> None:
    def client(path: str, template: str = "") -> Canned:
        return Canned({path: {**document.examples("get", template or path)[0], "meta": {}}})

    networks = lookups.networks(client("/api/networks"), "", "")
    assert networks[0].value == "network-1" and networks[0].facts["pools"] == ["pool-118"]
    assert networks[0].facts["cidr"] == "192.168.0.0/16" and networks[0].facts["active"]
    assert lookups.networks(client("/api/networks"), "", "pool-1") == []
    plans = lookups.plans(client("/api/instances/service-plans"), "1", "1", "1", "")
    assert plans[0].value == "75" and plans[0].facts["memory"] == 536870912
    images = lookups.images(client("/api/virtual-images"))
    assert images[0].value == "1246" and images[0].facts["os"] == "centOS 7 64-bit"
    groups = lookups.groups(client("/api/groups"))
    assert groups[0].value == "23" and "12" in groups[0].facts["zones"]
    zones = lookups.zones(client("/api/zones"), "")
    assert zones[0].value == "67" and zones[0].facts["type"] == "amazon"
    stores = lookups.datastores(client("/api/zones/1/data-stores", "/api/zones/{zoneId}/data-stores"), "1")
    assert stores[0].value == "7" and stores[0].facts["online"] and "GiB free" in stores[0].label
    rights = lookups.permissions(document.examples("get", "/api/whoami")[0])
    assert rights["virtual-images"] == "full"


def test_the_example_of_an_execution_request_is_read(document: Document) -> None:
    from servers.platforms.vme.inside import Execute

    example = document.examples("get", "/api/execution-request/{uniqueId}")[0]
    progress = Execute(Canned({}), "k", "1", "ls").state_of(answers.obj(example["executionRequest"]))
    assert progress.state == "succeeded" and progress.result["out"].startswith("bin\n")


@pytest.mark.parametrize("code", ["400", "401", "403", "404", "429"])
def test_the_examples_of_errors_are_told_in_their_words(document: Document, code: str) -> None:
    operation = document.paths["/api/instances"]["post"]
    content = document.resolve(operation["responses"]["4XX"])["content"]["application/json"]
    example = document.resolve(content["examples"][code])["value"]
    assert answers.own_words(example) == example["msg"]
