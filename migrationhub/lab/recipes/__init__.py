"""Recipes of the images of nspawn hosts, by name."""

from __future__ import annotations

from migrationhub.lab.recipes.base import BASE, BOOTSTRAP, DEBIAN, DEBIAN_NETWORKD, Recipe
from migrationhub.lab.recipes.shop import FILES, SHOP_DB, SHOP_WEB, WIKI
from migrationhub.lab.state import LabProblem

RECIPES = {one.name: one for one in (BOOTSTRAP, BASE, DEBIAN, DEBIAN_NETWORKD, SHOP_DB, SHOP_WEB, FILES, WIKI)}


def recipe(name: str) -> Recipe:
    """The recipe of that name."""
    if name not in RECIPES:
        raise LabProblem(
            f"There is no image “{name}”.", f"Take one of {', '.join(sorted(RECIPES))}.", code="lab.recipe"
        )
    return RECIPES[name]
