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
    "preflight": "sync",
    "sync": "sync",
    "record_services": "services",
    "compare_services": "services",
    "stop_services": "services",
    "prove_stopped": "services",
    "block_services": "services",
    "unblock_services": "services",
    "start_services": "services",
    "shutdown": "shutdown",
    "guest_address": "guest_address",
    "network": "network",
    "dns": "dns",
    "probe": "probe",
    "isolation": "isolation",
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
