"""`manage.py lab up|down|status|exec|images`: the small data centre for tests, the demo and newcomers."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from migrationhub.lab.datacentre import Datacentre
from migrationhub.lab.images import Images
from migrationhub.lab.kinds import choose
from migrationhub.lab.recipes import CONTAINERS
from migrationhub.lab.state import Lab
from migrationhub.lib.findings import Problem


class Command(BaseCommand):
    help = "A small data centre on this machine: servers to move, a platform to move them to, and a name server."
    requires_system_checks: list[str] = []  # it needs no database

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--lab", help="its name; MIGRATIONHUB_LAB or “default” by default")
        acts = parser.add_subparsers(dest="act", required=True)
        up = acts.add_parser("up", help="bring it up; what is up stays as it is")
        up.add_argument("--kind", choices=("auto", "nspawn", "process"), default="auto")
        up.add_argument("--source", action="append", help="only this source; may be repeated")
        acts.add_parser("down", help="remove everything but the cache of images")
        status = acts.add_parser("status", help="what runs")
        status.add_argument("--json", action="store_true")
        acts.add_parser("images", help="build the images that are missing, where nspawn hosts work")
        run = acts.add_parser("exec", help="run a command in a host: exec NAME -- COMMAND …")
        run.add_argument("name")
        run.add_argument("command", nargs="+")

    def handle(self, *args: Any, act: str, **options: Any) -> None:
        began = time.monotonic()
        centre = Datacentre(Lab(options["lab"]), self.say)
        try:
            if act == "up":
                centre.up(options["kind"], sources=options["source"])
                self.status(centre)
                self.say(f"up after {time.monotonic() - began:.0f} s")
            elif act == "down":
                centre.down()
                self.say("nothing is left but the cache of images")
            elif act == "images":
                self.build_images(centre.lab)
            elif act == "status":
                self.status(centre, options["json"])
            else:
                self.execute_in(centre, options["name"], options["command"])
        except Problem as problem:
            raise CommandError(str(problem)) from problem

    def build_images(self, lab: Lab) -> None:
        """Of the machines in containers; those of emulated machines are built when one is made."""
        kind, why = choose(lab)
        if kind != "nspawn":
            self.say(f"no images are needed: {why}")
            return
        images = Images(lab.cache)
        for one in CONTAINERS:
            if not images.path(one.name).is_dir():
                self.say(f"building the image “{one.name}”")
            with images.image(one.name):
                pass

    def say(self, text: str) -> None:
        self.stderr.write(text)

    def status(self, centre: Datacentre, as_json: bool = False) -> None:
        found = centre.status()
        if as_json:
            self.stdout.write(json.dumps(found, indent=2))
            return
        if not found["kind"]:
            self.stdout.write(f"The lab “{found['lab']}” is down.")
            return
        words = {True: "runs", False: "does not run", None: "needs none"}
        self.stdout.write(f"The lab “{found['lab']}” has {found['kind']} hosts ({found['why']}).")
        for part, name in (("network", "network"), ("dns", "name server"), ("vme", "VME stand-in")):
            self.stdout.write(f"  {name}: {words[found[part]]}")
        for name, power in found["hosts"].items():
            self.stdout.write(f"  {name}: {power}")

    def execute_in(self, centre: Datacentre, name: str, command: list[str]) -> None:
        done = centre.backend().execute(name, shlex.join(command))
        self.stdout.write(done.out, ending="")
        self.stderr.write(done.err, ending="")
        if done.rc:
            raise CommandError(f"the command ended with {done.rc}", returncode=done.rc)
