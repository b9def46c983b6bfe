from django.core.management import call_command
from django.db import migrations


def make(apps, editor):
    """The table of the cache, which all web processes share (settings.CACHES)."""
    call_command("createcachetable", database=editor.connection.alias, verbosity=0)


class Migration(migrations.Migration):

    initial = True
    dependencies = []
    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
