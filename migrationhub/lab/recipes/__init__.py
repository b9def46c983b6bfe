"""Recipes of the images of nspawn hosts, by name."""

from __future__ import annotations

from migrationhub.lab.recipes.base import BASE, BOOTSTRAP, DEBIAN, DEBIAN_NETWORKD, Recipe
from migrationhub.lab.recipes.shop import FILES, SHOP_DB, SHOP_WEB, WIKI
from migrationhub.lab.recipes.virtual import DEBIAN_VIRTUAL, LVM, SHOP_DB_MACHINE, ZFS
from migrationhub.lab.state import LabProblem

CONTAINERS = (BOOTSTRAP, BASE, DEBIAN, DEBIAN_NETWORKD, SHOP_DB, SHOP_WEB, FILES, WIKI)
RECIPES = {one.name: one for one in (*CONTAINERS, DEBIAN_VIRTUAL, SHOP_DB_MACHINE, LVM, ZFS)}


def recipe(name: str) -> Recipe:
    """The recipe of that name."""
    if name not in RECIPES:
        raise LabProblem(
            f"There is no image “{name}”.", f"Take one of {', '.join(sorted(RECIPES))}.", code="lab.recipe"
        )
    return RECIPES[name]
