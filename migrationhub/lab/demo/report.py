"""The report: `demo-report.json`, and the table in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from migrationhub.lab.demo.terminal import amount, seconds, table

SIGNS = {True: "held", False: "DID NOT HOLD", None: "not applicable"}
STATES_OVER = ("done", "not_applicable")


def report(host_kind: str, servers: list[dict[str, Any]], failure: str = "") -> dict[str, Any]:
    """`servers`: rows of each with `verified`. ok: every server there, every step over, every check held."""
    complete = bool(servers) and all(
        server["verified"] and all(step["state"] in STATES_OVER for step in server["steps"]) for server in servers
    )
    held = all(check["ok"] is not False for server in servers for check in server["verified"].values())
    told: dict[str, Any] = {"ok": complete and held and not failure, "host_kind": host_kind, "servers": servers}
    return {**told, "failure": failure} if failure else told


def write(path: Path, told: dict[str, Any]) -> None:
    new = path.with_suffix(".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    new.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    new.replace(path)


def lines(told: dict[str, Any]) -> str:
    """The table, then each check with what was seen."""
    rows = [
        [
            server["name"],
            "\n".join(f"{one['kind']}: {amount(one['bytes_sent'])}" for one in server["syncs"]),
            "\n".join(f"{one['files_sent']}" for one in server["syncs"]),
            "\n".join(f"{one['seconds']:.1f} s" for one in server["syncs"]),
            "\n".join(one["consistency"] for one in server["syncs"]),
            seconds(server["downtime_seconds"]),
            f"{sum(check['ok'] is True for check in server['verified'].values())} of "
            f"{sum(check['ok'] is not None for check in server['verified'].values())} checks held",
        ]
        for server in told["servers"]
    ]
    head = ["server", "bytes per sync", "files", "took", "consistency", "downtime", "verified"]
    parts = [table(head, rows), ""]
    for server in told["servers"]:
        parts.append(f"{server['name']}:")
        for name, check in server["verified"].items():
            parts.append(f"  {name.replace('_', ' ')}: {SIGNS[check['ok']]}. {check['said']}")
    return "\n".join(parts)
