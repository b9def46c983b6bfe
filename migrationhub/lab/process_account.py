"""The account that process hosts run as: the user's own, or one that root makes and removes.

When root runs the lab, hosts run as `mhlab`, so that nothing on them can touch the machine.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrationhub.lab import process_table
from migrationhub.lab.state import Lab, LabProblem, machine_lock

NAME = "mhlab"
HOME = Path("/var/lib/mhlab")
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
# Debian's own, which is there wherever supervisord is.
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int
    switched: bool  # processes change to this account; otherwise it is the one that we run as already

    def popen(self) -> dict[str, Any]:
        """Keyword arguments for subprocess that make the child run as this account."""
        if not self.switched:
            return {"umask": 0o022}
        return {"user": self.uid, "group": self.gid, "extra_groups": [], "umask": 0o022}

    def run(
        self,
        *command: str,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        timeout: float = 120.0,
        stdin: int = subprocess.DEVNULL,
    ) -> str:
        """Run a command as the account in a directory and return its output; `LabProblem` if it fails."""
        variables = {"PATH": SYSTEM_PATH, "HOME": str(directory), "LANG": "C.UTF-8", **(environment or {})}
        done = subprocess.run(
            command,
            cwd=directory,
            env=variables,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
            **self.popen(),
        )
        output: str = done.stdout.decode(errors="backslashreplace")
        if done.returncode:
            raise LabProblem(
                f"“{' '.join(command)}” in {directory} ended with status {done.returncode}: {output.strip()}",
                "Mend what it names, then call again.",
                code="lab.command",
            )
        return output


def ensure() -> Account:
    """The account; made first where root runs the lab and it is not there."""
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switched=False)
    with machine_lock():
        try:
            entry = pwd.getpwnam(NAME)
        except KeyError:
            useradd = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(HOME)]
            subprocess.run([*useradd, "--shell", "/bin/sh", "--password", "*", NAME], check=True)
            entry = pwd.getpwnam(NAME)
        HOME.mkdir(mode=0o700, exist_ok=True)
        os.chown(HOME, entry.pw_uid, entry.pw_gid)
    return Account(NAME, entry.pw_uid, entry.pw_gid, switched=True)


def hosts_directory(lab: Lab) -> Path:
    """Where a lab's process hosts live.

    With an account of their own they cannot live in the lab's directory: the way there may be closed to it.
    """
    return HOME / lab.unique_name if os.geteuid() == 0 else lab.dir / "process-hosts"


def remove_unused() -> bool:
    """Remove the account that root made, unless a lab still has hosts; True if it is gone."""
    if os.geteuid() != 0:
        return True
    with machine_lock():
        try:
            entry = pwd.getpwnam(NAME)
        except KeyError:
            return True
        if HOME.is_dir() and any(HOME.iterdir()):
            return False
        if not process_table.end(lambda: process_table.of_user(entry.pw_uid), grace=2):
            return False
        subprocess.run(["userdel", NAME], check=True)
        shutil.rmtree(HOME, ignore_errors=True)
    return True


def interpreter(account: Account) -> str:
    """A Python that the account can run: ours, unless it lies where only root may look."""
    if not account.switched:
        return sys.executable
    try:
        done = subprocess.run(
            [sys.executable, "-c", ""], check=False, cwd="/", capture_output=True, timeout=30, **account.popen()
        )
    except OSError:
        return SYSTEM_PYTHON
    return sys.executable if done.returncode == 0 else SYSTEM_PYTHON
