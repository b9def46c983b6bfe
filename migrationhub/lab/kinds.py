"""Which kind of host this machine can run: found by trying, not by looking at versions."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from migrationhub.lab import keeper
from migrationhub.lab.network import remove_namespace, run
from migrationhub.lab.state import Lab, LabProblem

KINDS = ("nspawn", "process")
NSPAWN_PROGRAMS = ("systemd-nspawn", "debootstrap", "ip", "tc", "nft", "nsenter", "unshare", "mkfs.btrfs")
BOTH_PROGRAMS = ("ssh-keygen", "rsync")
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def choose(lab: Lab, asked: str = "auto") -> tuple[str, str]:
    """(kind, why). nspawn where it works; asked for by name, what is missing is a problem."""
    if asked not in ("auto", *KINDS):
        raise LabProblem(f"“{asked}” is no kind of host.", "Use auto, nspawn or process.", code="lab.kind")
    if asked == "process":
        return "process", "as asked for"
    obstacle = nspawn_obstacle(lab)
    if not obstacle:
        return "nspawn", "a trial of systemd-nspawn in a network namespace worked"
    if asked == "nspawn":
        raise LabProblem(
            f"nspawn hosts do not work here: {obstacle}.",
            "Mend that, or use process hosts (--kind process).",
            code="lab.nspawn",
        )
    return "process", f"nspawn hosts do not work here: {obstacle}"


def nspawn_obstacle(lab: Lab) -> str:
    """What keeps nspawn hosts from running here, in words; "" if a trial worked."""
    if os.geteuid() != 0:
        return "they need root"
    lacking = [name for name in (*NSPAWN_PROGRAMS, *BOTH_PROGRAMS, "named") if not shutil.which(name, path=PATHS)]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    if shutil.which("modprobe", path=PATHS):
        run(["modprobe", "-q", "-a", "btrfs", "loop", "sch_tbf"], check=False)
    if "\tbtrfs" not in Path("/proc/filesystems").read_text():
        return "the kernel has no btrfs"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    try:
        return _trial(lab)
    except LabProblem as problem:
        return problem.text
    except OSError as error:
        return str(error)


def _trial(lab: Lab) -> str:
    """Run one program of this machine under systemd-nspawn, in a namespace with a bridge and a firewall."""
    namespace, group = f"{lab.tag}-trial", f"migrationhub-lab/{lab.tag}/.trial"
    with tempfile.TemporaryDirectory(prefix="migrationhub-trial-") as directory:
        root = Path(directory, "root")
        (root / "usr").mkdir(parents=True)
        (root / "etc").mkdir()
        (root / "etc/os-release").write_text("ID=trial\n")
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        remove_namespace(namespace)
        try:
            run(["ip", "netns", "add", namespace])
            run(["ip", "-n", namespace, "link", "add", "trial", "type", "bridge"])
            run(["ip", "-n", namespace, "link", "add", "trial0", "type", "veth", "peer", "name", "trial1"])
            slow = "qdisc add dev trial0 root tbf rate 40mbit burst 128kb latency 100ms"
            run(["tc", "-n", namespace, *slow.split()])
            rules = "table inet trial {\n chain c {\n type filter hook forward priority 0;\n }\n}\n"
            run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], data=rules)
            groups = [mount / group for mount in keeper.cgroup_mounts()]
            for path in groups:
                path.mkdir(parents=True, exist_ok=True)
            nspawn = "systemd-nspawn --quiet --register=no --keep-unit --private-users=no --capability=CAP_NET_ADMIN"
            enter = "".join(f"echo 0 > {path}/cgroup.procs && " for path in groups)
            command = f"{nspawn} --network-namespace-path=/run/netns/{namespace} --bind-ro=/usr"
            command += f" --machine={namespace} -D {root} /usr/bin/true"
            run(["sh", "-c", f"{enter}exec {command}"])
        finally:
            remove_namespace(namespace)
            keeper.remove_cgroup(group)
            with contextlib.suppress(OSError):
                Path("/run/systemd/nspawn/propagate", namespace).rmdir()
    return ""
