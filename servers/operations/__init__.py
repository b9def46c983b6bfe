"""What a run can do: a name, a module, a class."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from .base import Operation

MODULES = {
    "host_check": "check",
    "platform_check": "check",
    "platform_fit": "check",
    "facts": "facts",
    "provision": "provision",
    "preflight": "preflight",
    "sync": "sync",
    "record_services": "services",
    "compare_services": "services",
    "stop_services": "services",
    "prove_stopped": "services",
    "block_services": "services",
    "unblock_services": "services",
    "start_services": "services",
    "shutdown": "shutdown",
    "check_cutover": "cutover_check",
    "guest_address": "guest_address",
    "network": "network",
    "dns": "dns",
    "stage_identity": "identity",
    "drop_identity": "identity",
    "take_identity": "identity",
    "prove_identity": "identity",
    "undo_identity": "undo_files",
    "undo_guest_address": "undo_files",
    "network_back": "network",
    "undo_dns": "dns",
    "probe": "probe",
    "isolation": "isolation",
    "snapshot": "snapshots",
    "revert": "snapshots",
    "remove_access": "access",
}


@cache
def operation(name: str) -> Operation:
    """The operation of this name. Raises KeyError for a name that is not in the table."""
    module = import_module(f"servers.operations.{MODULES[name]}")
    for thing in vars(module).values():
        if isinstance(thing, type) and issubclass(thing, Operation) and getattr(thing, "name", "") == name:
            return thing()
    raise KeyError(name)
