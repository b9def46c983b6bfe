"""Ask both machines, before anything is copied, whether the copy can work."""

from __future__ import annotations

from dataclasses import replace

from migrationhub.lib.findings import Finding, Level
from servers.movers import mover
from servers.progress import Memo, Progress
from servers.remote import guest_address
from servers.remote.guest_address import AddressConfig

from .base import Job, Operation, done, failed, words_of
from .guest_address import production_address
from .moving import move_job


class Preflight(Operation):
    """A blocking finding fails the run and says what to do."""

    name = "preflight"

    def advance(self, job: Job) -> tuple[Memo, Progress]:
        for name in ("source", "target"):
            job.connection(name)  # what may pass by itself is tried again, and is no finding yet
        findings = [
            *mover(job.parameters["mover"]).preflight(move_job(job)),
            *unlike_networks(job),
            *guest_network(job),
        ]
        told = [finding.as_dict() for finding in findings]
        blocking = [finding for finding in findings if finding.level == Level.BLOCKING]
        if blocking:
            return job.memo, failed(words_of(blocking), blocking[0].code, findings=told)
        warnings = [finding for finding in findings if finding.level == Level.WARNING]
        return job.memo, done(words_of(warnings), findings=told)


def unlike_networks(job: Job) -> list[Finding]:
    """Which network unit is enabled comes with the source's system; the files it reads stay the target's own."""
    if job.parameters["scope"] != "system" or job.server("source").manager != "systemd":
        return []
    here, there = (guest_address.current(job.connection(name)) for name in ("source", "target"))
    if here.detail == there.detail == "unknown":
        words = "What configures the network of source and target is not known: if it differs, the copy has none."
        return [Finding(Level.WARNING, "network.kind", words, "Find out what configures it on both, and compare.")]
    if here.detail == there.detail == "netplan" and not (here.renderer and there.renderer):
        words = "Both configure their network by netplan; whether for the same renderer does not show."
        act = "Compare “renderer” in the files below /etc/netplan: the target's must be the source's."
        return [Finding(Level.WARNING, "network.kind", words, act)]
    if (here.kind, here.detail, here.renderer) == (there.kind, there.detail, there.renderer):
        return [Finding(Level.READY, "network.kind", f"Both configure their network by {_named(here)}.")]
    image = "the same" if here.detail == "unknown" else _named(here)
    return [
        Finding(
            Level.BLOCKING,
            "network.kind",
            f"The source configures its network by {_named(here)}, the target by {_named(there)}: after the copy it"
            " would have none.",
            f"Choose an image that uses {image}, or the scope “paths”.",
        )
    ]


def guest_network(job: Job) -> list[Finding]:
    """What step 6 would refuse of the target's network: the copy is not hindered, the stop will be."""
    if "by_hand" not in job.parameters:
        return []  # planned before the question was asked
    target = job.connection("target")
    if guest_address.not_applicable(target):
        return []
    if job.parameters["by_hand"]:
        text = "The production address is set by hand inside the guest, once the final delta is done."
        return [Finding(Level.READY, "guest_address.by_hand", text)]
    wanted = production_address(job)
    found = guest_address.unsuitable(guest_address.current(target), wanted, target.endpoint.name)
    return [
        replace(one, level=Level.WARNING, text=f"{one.text} The cutover will not begin like this.") for one in found
    ]


def _named(config: AddressConfig) -> str:
    if config.detail == "unknown":
        return "what is not known here"
    name = config.detail or config.kind
    return f"{name} for {config.renderer}" if config.renderer else name
