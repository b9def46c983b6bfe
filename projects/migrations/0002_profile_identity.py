from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("projects", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="profile",
            name="identity",
            field=models.JSONField(blank=True, default=list),
        ),
    ]
