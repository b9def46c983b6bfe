"""The product's settings for tests: a directory of their own, made before the settings are read."""

import atexit
import os
import shutil
import tempfile


def _own_directory() -> None:
    # Short, as Unix sockets lie below it. Workers and subprocesses inherit it; the one who made it removes it.
    directory, owner = tempfile.mkdtemp(prefix="mh-", dir="/tmp"), os.getpid()
    os.environ["MIGRATIONHUB_VAR"] = directory
    os.environ["MIGRATIONHUB_TEST_VAR"] = directory
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(directory, ignore_errors=True))


if os.environ.get("MIGRATIONHUB_VAR") != os.environ.get("MIGRATIONHUB_TEST_VAR") or not os.environ.get(
    "MIGRATIONHUB_TEST_VAR"
):
    _own_directory()

from migrationhub.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a real one takes a second per log-in
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405  # else whitenoise warns in every page test
