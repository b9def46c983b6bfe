from django.db import migrations, models

from migrationhub.audit import triggers


class Migration(migrations.Migration):

    dependencies = [
        ('audit', '0001_initial'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='auditevent',
            options={'base_manager_name': 'objects', 'ordering': ['-pk']},
        ),
        migrations.AddIndex(
            model_name='auditevent',
            index=models.Index(fields=['project_id', '-id'], name='audit_of_project'),
        ),
        migrations.RunPython(triggers.make, triggers.drop),
    ]
