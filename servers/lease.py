"""The controller's lease: one holder at a time, an epoch that grows at each take-over, the database's clock."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import DateTimeField, ExpressionWrapper, F, Q
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now

from servers.models import Change, Lease


def _in(seconds: float) -> ExpressionWrapper[CombinedExpression]:
    return ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=DateTimeField())


def hold(holder: str, epoch: int | None) -> int | None:
    """Renew the lease under `epoch`, or take it over if it has run out. The epoch held now; None: somebody else has it.

    A renewal may come late: as long as nobody took over, the epoch is still this holder's.
    """
    lease = _in(settings.CONTROLLER_LEASE)
    if epoch is not None and Lease.objects.filter(name="controller", holder=holder, epoch=epoch).update(
        until=lease, beat_at=Now()
    ):
        return epoch
    Lease.objects.get_or_create(name="controller")
    if not Lease.objects.filter(Q(until=None) | Q(until__lte=Now()), name="controller").update(
        epoch=F("epoch") + 1, holder=holder, until=lease, beat_at=Now()
    ):
        return None
    Change.bump()
    return Lease.objects.values_list("epoch", flat=True).get(name="controller", holder=holder)


def release(holder: str, epoch: int | None) -> None:
    """Give the lease back at an orderly end, so that the next controller need not wait."""
    Lease.objects.filter(name="controller", holder=holder, epoch=epoch or 0).update(until=Now())


def alive() -> Q:
    """A condition on `Lease`: its holder works. Who was stopped is seen at once, who died after half a lease."""
    return Q(until__gt=Now(), beat_at__gt=_in(-settings.CONTROLLER_LEASE / 2))
