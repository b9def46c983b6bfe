"""Can this account do the job on this appliance? One page of findings, each with what to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from migrationhub.lib.findings import Finding, Level
from servers.platforms.base import InstanceSpec, PlatformProblem
from servers.platforms.vme import answers, lookups, shapes
from servers.platforms.vme.answers import Json, Refused, Unavailable, network_ref, number, obj, pool_ref, text_id
from servers.platforms.vme.client import Client
from servers.platforms.vme.create import plan_bodies
from servers.platforms.vme.rights import NEEDS, RANK
from servers.platforms.vme.version import IN_PLACE_NICS, OLDEST, build_version


def check(client: Client, spec: InstanceSpec | None, production_network: str = "") -> list[Finding]:
    """Everything that can be known before anything is made. Stops early where the appliance is out of reach."""
    try:
        whoami = client.get("/api/whoami")
    except PlatformProblem as problem:
        return [finding_of(problem)]
    name = client.access.name
    user = str(obj(whoami.get("user")).get("username") or client.access.username)
    trust = " (its certificate is not verified)" if client.access.insecure else ""
    findings = [Finding(Level.READY, "platform.reached", f"{name} knows us as “{user}”{trust}.", subject=name)]
    if client.access.insecure:
        findings.append(
            Finding(
                Level.WARNING,
                "platform.insecure",
                f"The certificate of {name} is not verified: anybody on the way can read the password.",
                "Enter the CA that signed it and turn verification on.",
                name,
            )
        )
    parts: list[Callable[[], list[Finding]]] = [
        lambda: version(client),
        lambda: rights(name, whoami),
        lambda: licence(client),
    ]
    if spec is not None:
        parts += [
            lambda: place(client, spec),
            lambda: attachable(client, spec, production_network),
            lambda: plan(client, spec),
            lambda: image(client, spec),
            lambda: datastore(client, spec),
            lambda: name_free(client, spec.label),
        ]
    return findings + findings_of(parts)


def findings_of(parts: list[Callable[[], list[Finding]]]) -> list[Finding]:
    """What each part finds; none after one that finds the appliance out of reach."""
    findings: list[Finding] = []
    for part in parts:
        try:
            findings += part()
        except PlatformProblem as problem:
            findings.append(finding_of(problem))
            if isinstance(problem, Unavailable):
                break
    return findings


def finding_of(problem: PlatformProblem) -> Finding:
    return Finding(Level.BLOCKING, problem.code, problem.text, problem.act)


def blocking(code: str, text: str, act: str, subject: str = "") -> list[Finding]:
    return [Finding(Level.BLOCKING, code, text, act, subject)]


def ready(code: str, text: str, subject: str = "") -> list[Finding]:
    return [Finding(Level.READY, code, text, "", subject)]


def version(client: Client) -> list[Finding]:
    build = build_version(client)
    seen = answers.version_of(build)
    if not build:
        return [
            Finding(
                Level.WARNING,
                "version.unknown",
                f"{client.access.name} does not tell its version.",
                "Give the account “Health: Read”, so that what depends on the version can be checked.",
            )
        ]
    if seen < OLDEST:
        return blocking(
            "version.old",
            f"{client.access.name} is version {build}; {_dotted(OLDEST)} or later is needed.",
            "Upgrade the appliance.",
        )
    if seen < IN_PLACE_NICS:
        return blocking(
            "version.old",
            f"{client.access.name} is version {build}; it cannot move a machine to another network in place, which"
            f" needs {_dotted(IN_PLACE_NICS)}.",
            "Upgrade the appliance before the cutover.",
        )
    return ready("version", f"{client.access.name} is version {build}.")


def _dotted(numbers: tuple[int, int, int]) -> str:
    return ".".join(map(str, numbers))


def rights(name: str, whoami: Json) -> list[Finding]:
    has = lookups.permissions(whoami)
    if not has:
        return blocking(
            "permission.unknown",
            f"{name} tells no permissions of this account.",
            "Check the account's role in VME.",
        )
    # An older release has one right for all that is done to instances, and tells no finer ones.
    coarse = RANK.get(has.get("provisioning", "none"), 0) == RANK["full"] and not any(
        code.startswith("provisioning-") for code in has
    )
    findings = []
    for need in NEEDS:
        access = has.get(need.code, "none")
        if RANK.get(access.lower(), 0) >= RANK[need.access]:
            continue
        untold = coarse and need.code.startswith("provisioning-")
        findings.append(
            Finding(
                Level.WARNING if untold else need.level,
                f"permission.{need.code}",
                f"It is not told whether the account may {need.what_for}: {name} has no “{need.name}” ({need.code})."
                if untold
                else f"The account may not {need.what_for}: “{need.name}” ({need.code}) is {access},"
                f" {need.access} is needed.",
                f"Set “{need.name}” to {need.access.capitalize()} in the account's role.",
                need.code,
            )
        )
    return findings or ready("permissions", f"The account has all {len(NEEDS)} permissions that are needed.")


def licence(client: Client) -> list[Finding]:
    try:
        body = client.get("/api/license")
    except Refused as problem:
        if problem.status not in (403, 404):
            raise
        return [
            Finding(
                Level.WARNING,
                "license.unseen",
                "The account may not read the licence, so it is not known how many machines are left.",
                "Look in VME under Administration, Licenses.",
            )
        ]
    terms, used = obj(body.get("license")), obj(body.get("currentUsage"))
    if not terms:
        return blocking("license.none", f"{client.access.name} has no licence.", "Install one in VME.")
    end = _moment(terms.get("endDate"))
    if end and end.timestamp() < client.clock():
        return blocking("license.ended", f"The licence ended on {end:%Y-%m-%d}.", "Renew it in VME.")
    limit = terms.get("maxMvm")
    if limit is None or number(limit) == 0:
        return ready("license", "The licence sets no number of machines.")
    left = number(limit) - number(used.get("mvm"))
    counted = f"{number(used.get('mvm'))} of {number(limit)} licensed machines are used"
    if left > 0:
        return ready("license", f"{counted}; {left} left.")
    level = Level.BLOCKING if terms.get("hardLimit") else Level.WARNING
    return [Finding(level, "license.used_up", f"All are used: {counted}.", "Free a licence or buy more.")]


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def place(client: Client, spec: InstanceSpec) -> list[Finding]:
    """Group, cloud, layout and pool are there and belong together."""
    name = client.access.name
    if spec.group_id not in [choice.value for choice in lookups.groups(client)]:
        return blocking("group.missing", f"{name} shows no group {spec.group_id}.", "Choose another group.", "group_id")
    clouds = {choice.value: choice for choice in lookups.zones(client, spec.group_id)}
    if spec.zone_id not in clouds:
        return blocking(
            "zone.missing",
            f"The group {spec.group_id} has no cloud {spec.zone_id}.",
            "Choose a cloud of that group.",
            "zone_id",
        )
    findings = []
    cloud = clouds[spec.zone_id]
    if cloud.facts["status"] not in ("", "ok", "warning", "syncing"):
        findings += blocking(
            "zone.status", f"The cloud “{cloud.label}” is {cloud.facts['status']}.", "Look at it in VME.", "zone_id"
        )
    if spec.layout_id not in [choice.value for choice in lookups.layouts(client)]:
        findings += blocking(
            "layout.missing",
            f"{name} has no layout {spec.layout_id} for HPE virtual machines.",
            "Choose another layout.",
            "layout_id",
        )
    found = {choice.value: choice for choice in lookups.pools(client, spec.zone_id, spec.group_id, spec.layout_id)}
    if pool_ref(spec.pool_id) not in found:
        findings += blocking(
            "pool.missing",
            f"The cloud “{cloud.label}” has no cluster pool {spec.pool_id}.",
            "Choose a pool of an HVM cluster.",
            "pool_id",
        )
    if findings:
        return findings
    if cloud.facts["auto_recover_power"]:
        # At cutover the guest shuts itself down before its network card is moved.
        findings.append(
            Finding(
                Level.WARNING,
                "zone.auto_recover",
                f"The cloud “{cloud.label}” switches machines on again that went off by themselves.",
                "Take “Automatically Power On VMs” out of the cloud's settings for the time of the cutover, or the"
                " target may start in the middle of its move.",
                "zone_id",
            )
        )
    return findings + ready("place", f"Cloud “{cloud.label}”, pool “{found[pool_ref(spec.pool_id)].label}”.")


def attachable(client: Client, spec: InstanceSpec, production_network: str) -> list[Finding]:
    """Both networks are there, active, of the instance's cloud and bound to its pool."""
    bodies = {network_ref(body.get("id")): body for body in lookups.network_bodies(client, spec.zone_id)}
    findings: list[Finding] = []
    asked = [("migration", spec.network_id), ("production", production_network)]
    if production_network and network_ref(production_network) == network_ref(spec.network_id):
        findings += blocking(
            "network.same",
            "The migration network and the production network are the same: the clone would not be isolated.",
            "Choose a network of its own for migrations.",
            "production",
        )
    for role, network_id in asked:
        if not network_id:
            continue
        body = bodies.get(network_ref(network_id))
        if body is None:
            findings += blocking(
                f"network.{role}.missing",
                f"The cloud shows no {role} network {network_id} to this account.",
                "Choose another network, or let the account's group see it.",
                role,
            )
            continue
        findings += _network(role, lookups.network_choice(body).label, body, spec)
    return findings


def _network(role: str, label: str, body: Json, spec: InstanceSpec) -> list[Finding]:
    if body.get("active") is False:
        return blocking(
            f"network.{role}.inactive", f"The {role} network “{label}” is not active.", "Activate it in VME.", role
        )
    pools = lookups.pools_of(body)
    if pool_ref(spec.pool_id) not in pools:
        bound = f"bound to {', '.join(pools)}" if pools else "bound to no pool"
        return blocking(
            f"network.{role}.pool",
            f"The {role} network “{label}” is {bound}, not to {pool_ref(spec.pool_id)}: VME would refuse it.",
            "Choose a network of the cluster, or add its VLAN to the cluster's compute VLANs.",
            role,
        )
    return ready(f"network.{role}", f"The {role} network “{label}” is active and in the pool.", role)


def plan(client: Client, spec: InstanceSpec) -> list[Finding]:
    for body in plan_bodies(client, spec.zone_id, spec.layout_id, spec.group_id, spec.pool_id):
        if text_id(body.get("id")) == spec.plan_id and body.get("active") is not False:
            return ready("plan", f"The service plan “{body.get('name')}” is offered.", "plan_id")
    return blocking(
        "plan.missing",
        f"VME does not offer the service plan {spec.plan_id} for this cloud, layout and group.",
        "Choose another plan, or activate it in VME.",
        "plan_id",
    )


def image(client: Client, spec: InstanceSpec) -> list[Finding]:
    for body in lookups.image_bodies(client):
        if text_id(body.get("id")) != spec.image_id:
            continue
        name, status = str(body.get("name")), str(body.get("status") or "Active")
        if status.lower() != "active":
            return blocking(
                "image.status",
                f"The image “{name}” is {status}.",
                "Wait until it is Active, or import it again.",
                "image_id",
            )
        least = number(body.get("minDisk"))
        if spec.disks and least > spec.disks[0] * lookups.GIB:
            return blocking(
                "image.disk",
                f"The image “{name}” needs {least / lookups.GIB:.0f} GiB, the root disk has {spec.disks[0]}.",
                "Enter a larger root disk.",
                "disks",
            )
        return ready("image", f"The image “{name}” is active.", "image_id")
    return blocking("image.missing", f"VME shows no qcow2 image {spec.image_id}.", "Choose another image.", "image_id")


def datastore(client: Client, spec: InstanceSpec) -> list[Finding]:
    wanted = sum(spec.disks)
    for body in lookups.datastore_bodies(client, spec.zone_id):
        if text_id(body.get("id")) != spec.datastore_id:
            continue
        name = str(body.get("name"))
        if body.get("online") is False or body.get("active") is False or body.get("allowProvision") is False:
            return blocking(
                "datastore.offline",
                f"The datastore “{name}” is offline or takes no new machines.",
                "Bring it online, or choose another.",
                "datastore_id",
            )
        free = number(body.get("freeSpace"), default=-1)
        if free < 0:
            return [
                Finding(
                    Level.WARNING,
                    "datastore.space",
                    f"VME does not tell the free space of “{name}”.",
                    f"Check that {wanted} GiB are free.",
                    "datastore_id",
                )
            ]
        if free < wanted * lookups.GIB:
            return blocking(
                "datastore.space",
                f"The datastore “{name}” has {free / lookups.GIB:.0f} GiB free, {wanted} GiB are needed.",
                "Free space, or choose another datastore.",
                "datastore_id",
            )
        return ready("datastore", f"The datastore “{name}” has {free / lookups.GIB:.0f} GiB free.", "datastore_id")
    return blocking(
        "datastore.missing",
        f"The cloud has no datastore {spec.datastore_id}.",
        "Choose another datastore.",
        "datastore_id",
    )


def name_free(client: Client, label: str) -> list[Finding]:
    """No machine has the name, powered-off and merely discovered ones included; our own instance is taken on."""
    machines = lookups.machines_named(client, label)
    listed = client.all("/api/instances", "instances", {"name": label, "details": "true"})
    instances = [body for body in listed if body.get("name") == label]
    ours = [body for body in instances if shapes.has_label(body, label)]
    our_servers = {text_id(server) for body in ours for server in body.get("servers") or []}
    foreign = [body for body in machines if text_id(body.get("id")) not in our_servers]
    foreign_instances = [body for body in instances if body not in ours]
    if foreign or foreign_instances:
        body = (foreign or foreign_instances)[0]
        power = str(body.get("powerState") or body.get("status") or "unknown")
        return blocking(
            "name.taken",
            f"A machine named “{label}” already exists in VME (id {text_id(body.get('id'))}, {power}).",
            "Choose another name for the target, or rename or delete that machine.",
            "label",
        )
    if ours:
        return ready("name.ours", f"“{label}” is already made and will be taken on.", "label")
    return ready("name", f"The name “{label}” is free.", "label")
