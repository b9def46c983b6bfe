"""Verification from both roots, with none of the product's rows or manifests: by find, sha256sum, getfattr,
getfacl, stat, and a throw-away postmaster on copies.

Neither root is ever written to. Both hosts should be off; what changes meanwhile shows as a difference.
"""

from migrationhub.lab.verify_orders import OrdersVerdict, compare_orders
from migrationhub.lab.verify_trees import Difference, TreeVerdict, compare_trees

__all__ = ["Difference", "OrdersVerdict", "TreeVerdict", "compare_orders", "compare_trees"]
