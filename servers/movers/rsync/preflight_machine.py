"""Findings about the two machines: tools, clocks, the path between them, and whether their systems fit."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migrationhub.lib.findings import Finding, Level
from servers.movers.base import MoveJob
from servers.remote.base import Endpoint

Fields = dict[str, bytes]
OLDEST_RSYNC = (3, 1, 0)  # times in nanoseconds, progress of the whole, missing arguments
CLOCK_WARNING = 5.0  # seconds; manifests compare a machine with itself, so a difference alone loses nothing


def tools(job: MoveJob, source: Fields, target: Fields) -> Iterator[Finding]:
    for endpoint, fields in ((job.source, source), (job.target, target)):
        yield _rsync(endpoint, text(fields, "rsync"))
        missing = text(fields, "missing-tools").split()
        if endpoint is job.target:
            missing = [tool for tool in missing if not tool.startswith("ssh")]
        if missing:
            names = ", ".join(missing)
            yield Finding(
                Level.BLOCKING,
                "tools.missing",
                f"{endpoint.name} lacks {names}.",
                "Install coreutils, findutils, util-linux and the OpenSSH client there.",
                endpoint.name,
            )


def _rsync(endpoint: Endpoint, line: str) -> Finding:
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", line)
    if found is None:
        return Finding(
            Level.BLOCKING, "rsync.missing", f"{endpoint.name} has no rsync.", "Install rsync there.", endpoint.name
        )
    version = (int(found[1]), int(found[2]), int(found[3]))
    words = ".".join(map(str, version))
    if version < OLDEST_RSYNC:
        return Finding(
            Level.BLOCKING,
            "rsync.old",
            f"{endpoint.name} has rsync {words}; 3.1.0 or newer is needed.",
            "Update rsync there.",
            endpoint.name,
        )
    return Finding(Level.READY, "rsync.version", f"{endpoint.name} has rsync {words}.", subject=endpoint.name)


def clocks(job: MoveJob, source: float, target: float) -> Iterator[Finding]:
    """Offsets in seconds from our own clock."""
    for endpoint, offset in ((job.source, source), (job.target, target)):
        direction = "ahead" if offset > 0 else "behind"
        if abs(offset) >= CLOCK_WARNING:
            yield Finding(
                Level.WARNING,
                "clock.offset",
                f"The clock of {endpoint.name} is {abs(offset):.0f} s {direction}; set back, it forces a full sync.",
                "Let a time service set it slowly, before the sync or after the cutover.",
                endpoint.name,
            )
        else:
            yield Finding(Level.READY, "clock.offset", f"The clock of {endpoint.name} is right.", "", endpoint.name)


def path_to_target(job: MoveJob, source: Fields) -> Iterator[Finding]:
    """Does the source reach the target's port, and is it the target that answers there?"""
    where = f"{job.target.address} port {job.target.port}"
    said = text(source, "path")
    shown = {" ".join(line.split()[1:3]) for line in said.splitlines() if line and not line.startswith("#")}
    known = {" ".join(key.split()[:2]) for key in job.target.host_keys}
    if shown & known:
        yield Finding(Level.READY, "path.open", f"{job.source.name} reaches the target at {where}.")
    elif any(key.startswith(("ssh-", "ecdsa-")) for key in shown):
        yield Finding(
            Level.BLOCKING,
            "path.other_host",
            f"At {where} {job.source.name} meets a machine with another host key than the target's.",
            "Check that the address is the target's on the source's network too.",
            job.target.name,
        )
    else:
        yield Finding(
            Level.BLOCKING,
            "path.closed",
            f"{job.source.name} does not reach the target at {where}.",
            "Open this port from the source to the target (routes, firewalls), and check that the target is on.",
            job.target.name,
        )


def system(job: MoveJob, source: Fields, target: Fields) -> Iterator[Finding]:
    """Scope `system`: what is not copied must fit what is."""
    if job.scope != "system":
        return
    yield _release(job, text(source, "release"), text(target, "release"))
    layouts = text(source, "usr"), text(target, "usr")
    if layouts[0] != layouts[1]:
        yield Finding(
            Level.BLOCKING,
            "usr.layout",
            f"/usr is {layouts[0]} on {job.source.name} and {layouts[1]} on {job.target.name}.",
            "Install usrmerge where it is split, or choose an image with the same layout.",
            job.target.name,
        )
    else:
        yield Finding(Level.READY, "usr.layout", f"/usr is {layouts[0]} on both.")
    yield _kernel(job, text(target, "kernels"))


def _release(job: MoveJob, source: str, target: str) -> Finding:
    here, there = release(source), release(target)
    if here != there or not all(here):
        return Finding(
            Level.BLOCKING,
            "release.differs",
            f"{job.source.name} runs {' '.join(here).strip() or 'an unknown release'}, "
            f"{job.target.name} {' '.join(there).strip() or 'an unknown release'}.",
            "Choose an image of the same distribution and major release, or the scope “paths”.",
            job.target.name,
        )
    return Finding(Level.READY, "release.same", f"Both run {' '.join(here)}.")


def release(os_release: str) -> tuple[str, str]:
    """Distribution and release of /etc/os-release: of those with point releases the major one."""
    values = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    name, version = (values.get(key, "").strip("\"'") for key in ("ID", "VERSION_ID"))
    return name, version if name == "ubuntu" else version.partition(".")[0]


def _kernel(job: MoveJob, kernels: str) -> Finding:
    """Not `uname -r`: a kernel may have been updated since the boot, and a container shows its host's."""
    found = dict(line.split(" ", 1) for line in kernels.splitlines() if " " in line)
    whole = [version for version, modules in found.items() if modules == "yes"]
    if whole:
        return Finding(Level.READY, "kernel.target", f"{job.target.name} has its own kernel {', '.join(whole)}.")
    lacking = f"has the kernel {', '.join(found)} without its modules" if found else "has no kernel in /boot"
    return Finding(
        Level.BLOCKING,
        "kernel.target",
        f"{job.target.name} {lacking}: it would not start after the copy.",
        "Install a kernel package on the target, or choose another image.",
        job.target.name,
    )


def text(fields: Fields, name: str) -> str:
    return fields.get(name, b"").decode("utf-8", "backslashreplace").strip()
