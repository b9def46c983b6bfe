"""What a sync keeps away from, each with its reason: the one list of what belongs to a machine, not to its data.

A pattern that begins with “/” is a path from the host's root and everything below it; any other pattern is a
name wherever it occurs. `*`, `?` and `[…]` are wildcards; in a path `*` crosses “/”.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from migrationhub.lib.findings import Problem
from servers.remote.access import EXCLUDED_PATHS
from servers.remote.services.base import KINDS
from servers.remote.services.systemd import LASTING

SNAPSHOT_NAME = ".migrationhub-snapshot"  # a snapshot that a sync takes, inside the subvolume


@dataclass(frozen=True)
class Exclusion:
    pattern: str
    reason: str


def _all(reason: str, *patterns: str) -> tuple[Exclusion, ...]:
    return tuple(Exclusion(pattern, reason) for pattern in patterns)


OURS = (
    *_all("our own access and state: without them the target is lost", *EXCLUDED_PATHS),
    *_all("a snapshot that a sync takes", SNAPSHOT_NAME),
    # A source that is blocked for good may be synced again, where its cutover was stopped after that. What a unit was
    # given by `systemctl set-property` lies there as well, in directories whose names end in “.d”: that is data.
    *_all(
        "our block of the source's services: on the target they could not start",
        *(f"{LASTING}/*.{kind}" for kind in KINDS),
        "/etc/supervisor.d/zz-migrationhub-*.ini",
    ),
)

# Scope `system`: what stays the target's own.
MACHINE = (
    *_all("an interface of the kernel, not data", "/proc", "/sys", "/dev"),
    *_all("lives until the next boot only", "/run", "/tmp", "/var/tmp/systemd-private-*"),  # noqa: S108
    *_all("kernel, initramfs and boot loader fit the machine's own disk and firmware", "/boot", "/efi"),
    *_all(
        "modules and firmware belong to the machine's own kernel",
        "/lib/modules",
        "/usr/lib/modules",
        "/lib/firmware",
        "/usr/lib/firmware",
    ),
    *_all(
        "says how the machine's own kernel is started",
        "/etc/default/grub",
        "/etc/default/grub.d",
        "/etc/grub.d",
        "/etc/grub2.cfg",
        "/etc/grub2-efi.cfg",
        "/etc/sysconfig/grub",
        "/etc/sysconfig/bootloader",
        "/etc/kernel",
        "/etc/kernel-img.conf",
        "/etc/dracut.conf",
        "/etc/dracut.conf.d",
        "/etc/initramfs-tools",
        "/var/lib/initramfs-tools",
        "/etc/mkinitcpio.conf",
        "/etc/modules-load.d/virtio*",
    ),
    *_all(
        "names the machine's own disks",
        "/etc/fstab",
        "/etc/crypttab",
        "/etc/lvm",
        "/etc/mdadm",
        "/etc/mdadm.conf",
        "/etc/multipath",
        "/etc/multipath.conf",
        "/etc/iscsi",
        "/etc/mtab",
        "/etc/udev/rules.d/*persistent*",
        "/etc/udev/rules.d/*-net-*",
        "/swapfile",
        "/swap.img",
        "lost+found",
    ),
    # In each subvolume that snapper looks after, and for a root under snapper the live system itself lies in there.
    *_all("snapper's snapshots: what the machine's own disk held at other times", ".snapshots"),
    *_all(
        "the machine's own network: copied, it would be unreachable or take the source's address",
        "/etc/network",
        "/etc/netplan",
        "/etc/systemd/network",
        "/etc/NetworkManager/system-connections",
        "/etc/sysconfig/network",
        "/etc/sysconfig/network-scripts",
        "/etc/resolv.conf",
        "/etc/resolvconf",
        "/var/lib/dhcp",
        "/var/lib/dhclient",
        "/var/lib/NetworkManager",
        "/var/lib/systemd/network",
    ),
    *_all(
        "the machine's identity; taking over the source's is a choice at cutover",
        "/etc/machine-id",
        "/var/lib/dbus/machine-id",
        "/etc/hostname",
        "/etc/machine-info",
        "/etc/ssh/ssh_host_*",
        "/var/lib/systemd/random-seed",
    ),
    *_all(
        "made for the machine by its platform",
        "/etc/cloud",
        "/var/lib/cloud",
        "/var/log/cloud-init*",
        "/run/cloud-init",
    ),
)

# What base itself writes on a host whose services are stopped (each SSH login does): sent last, outside the
# proof, nothing of it deleted on the target (the journal of another machine id is the target's own).
BASE_WRITTEN: tuple[str, ...] = (
    "/var/log/journal",
    "/var/log/wtmp",
    "/var/log/btmp",
    "/var/log/lastlog",
    "/var/log/faillog",
    "/var/log/tallylog",
    "/var/log/auth.log",
    "/var/log/secure",
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/kern.log",
    "/var/log/daemon.log",
    "/var/log/user.log",
    "/var/log/debug",
    "/var/log/cron.log",
    "/var/log/cron",
    "/var/log/audit/audit.log",
    "/var/lib/systemd/timers",
    "/var/lib/systemd/timesync",
    "/var/lib/private/systemd/timesync",
    "/var/lib/systemd/linger",
    "/var/lib/systemd/rfkill",
    "/var/lib/systemd/backlight",
    "/var/lib/systemd/catalog",
    "/var/lib/systemd/coredump",
    "/var/lib/systemd/pstore",
    "/var/lib/chrony",
    "/var/lib/ntp",
    "/var/lib/ntpsec",
    "/var/lib/logrotate",
    "/var/log/lastlog2",
    "/var/lib/lastlog",
    "/var/lib/wtmpdb",
)

# PostgreSQL in backup mode: as pg_basebackup, these are left out of the copy; pg_wal is sent after the end, and then
# the label and what its recovery needs.
POSTGRESQL_OUT: tuple[str, ...] = (
    "pg_wal/*",
    "pg_replslot/*",
    "pg_dynshmem/*",
    "pg_notify/*",
    "pg_serial/*",
    "pg_snapshots/*",
    "pg_stat_tmp/*",
    "pg_subtrans/*",
    "postmaster.pid",
    "postmaster.opts",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "postgresql.auto.conf",
    "recovery.signal",
)
# Replaced by those last passes: what the clone has of them is not removed before.
POSTGRESQL_LAST: tuple[str, ...] = ("pg_wal/*", "postgresql.auto.conf")


def exclusions(scope: str, profile: Iterable[str]) -> tuple[Exclusion, ...]:
    """All that holds for a sync, the profile's own patterns last. Raises `Problem` for a pattern that is none."""
    own = []
    for pattern in profile:
        text = pattern.strip()
        if not text or text == "/" or "\0" in text or "//" in text or ".." in text.split("/"):
            raise Problem(
                f"Exclusion {pattern!r} of the profile names nothing that could be left out.",
                "Give a path from the root such as /var/cache, or a name such as *.bak.",
                code="rsync.exclusion",
            )
        if "/" in text and not text.startswith("/"):
            raise Problem(
                f"Exclusion {pattern!r} of the profile has a slash but does not begin with one.",
                f"Write /{text} for the path from the root, or a name without slashes.",
                code="rsync.exclusion",
            )
        own.append(Exclusion(text.rstrip("/"), "left out by the profile"))
    return (*OURS, *(MACHINE if scope == "system" else ()), *own)


def literal(path: str) -> str:
    """A path as a pattern that matches nothing else."""
    return "".join(f"\\{letter}" if letter in "\\*?[" else letter for letter in path)


def left_out(path: str, patterns: Iterable[str]) -> bool:
    """Whether the patterns leave out an absolute path, by itself or with a directory above it."""
    names = path.split("/")
    for pattern in patterns:
        if not pattern.startswith("/"):
            if any(fnmatchcase(name, pattern) for name in names):
                return True
        elif fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*"):
            return True
    return False


def find_terms(patterns: Iterable[str]) -> list[str]:
    """Arguments of find, joined by -o, that are true for everything that the patterns leave out.

    find is started in the root, so that its paths begin with “./”.
    """
    terms: list[str] = []
    for pattern in patterns:
        tests = ["-name", pattern] if not pattern.startswith("/") else _path_tests(pattern)
        terms += ["-o", *tests] if terms else tests
    return terms


def _path_tests(pattern: str) -> list[str]:
    if pattern.endswith("/*"):  # what is below it, not itself
        return ["-path", f".{pattern}"]
    # The second test is for a walk that starts below an excluded directory, at a mount point there.
    return ["-path", f".{pattern}", "-o", "-path", f".{pattern}/*"]
