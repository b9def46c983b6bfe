"""`manage.py bench`: our rsync mover beside plain rsync, on the same directories and over the same SSH."""
