"""Findings about the options of programs that a sync cannot do without: each is really tried, on both machines."""

from __future__ import annotations

from collections.abc import Iterator

from migrationhub.lib.findings import Finding, Level
from servers.movers.base import MoveJob
from servers.remote.base import Endpoint

# Nothing is changed by it. Versions tell less: distributions take options over into older ones.
_TRY = """
LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH
try() { # package, command
  package=$1
  shift
  said=$("$@" 2>&1 </dev/null) ||
    printf '%s\\t%s\\t%s\\n' "$package" "$1 $2" "$(printf %s "$said" | tr '\\n\\t' '  ' | cut -c 1-200)"
}
try coreutils comm -z -12 /dev/null /dev/null
try coreutils sort -zmu /dev/null
try coreutils join -z -t / /dev/null /dev/null
try coreutils head -zn 1 /dev/null
try sed sed -zn p /dev/null
try grep sh -c 'printf "a\\0" | grep -zqx a' grep -z
try findutils find / -maxdepth 0 ! -newerct @1 -printf ''
try findutils xargs -0 -r true
"""
_SYSTEMD = "try systemd timeout 20 systemd-run --quiet --collect /bin/true\n"

_NEEDS = {
    "coreutils": ("a sync needs coreutils 8.25 or newer", "Install GNU coreutils 8.25 or newer there"),
    "sed": ("a sync needs GNU sed 4.2.2 or newer", "Install GNU sed there"),
    "grep": ("a sync needs GNU grep", "Install GNU grep there"),
    "findutils": ("a sync needs GNU findutils", "Install GNU findutils there"),
    "systemd": ("a sync runs by systemd-run --collect, of systemd 236 or newer", "Update systemd there"),
}


def programs(job: MoveJob) -> Iterator[Finding]:
    """Without these options every comparison would come out empty."""
    for endpoint in (job.source, job.target):
        yield _tried(job, endpoint)


def _tried(job: MoveJob, endpoint: Endpoint) -> Finding:
    script = _TRY + (_SYSTEMD if endpoint.manager == "systemd" else "")
    answer = job.connect(endpoint).run(["sh", "-c", script], timeout=60, check=True).text.strip()
    if not answer:
        return Finding(
            Level.READY, "tools.work", f"The programs of {endpoint.name} can what a sync asks.", subject=endpoint.name
        )
    package, command, said = (*answer.splitlines()[0].split("\t"), "", "")[:3]
    needs, act = _NEEDS.get(package, _NEEDS["coreutils"])
    if package == "systemd":
        command = "systemd-run --collect"
    return Finding(
        Level.BLOCKING,
        "tools.old",
        f"{endpoint.name}: {needs}; {command} said there: {said.strip() or 'nothing'}.",
        f"{act}, or move this server by another method.",
        endpoint.name,
    )
