"""Settings of migrationhub, all from the environment; `.env.example` explains each. Secrets also from files."""

from __future__ import annotations

from pathlib import Path

from django.utils.csp import CSP

from migrationhub.lib import env, keys
from migrationhub.lib.mail import mailer

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.text("MIGRATIONHUB_VAR", str(BASE_DIR / "var")))

DEBUG = env.flag("DEBUG")
SECRET_KEY = env.text("SECRET_KEY") or keys.stored(VAR_DIR / "secret_key", keys.new_secret)
# The first encrypts, all decrypt; `manage.py rotate_keys` re-encrypts with the first.
CREDENTIAL_KEYS = env.words("CREDENTIAL_KEYS") or [keys.stored(VAR_DIR / "credential_key", keys.new_fernet)]
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
HTTPS = env.flag("HTTPS")
BEHIND_PROXY = env.flag("BEHIND_PROXY")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "django_q",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "migrationhub.audit",
    "servers",
    "projects",
    "migrationhub",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "migrationhub.audit.middleware.OriginMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "projects.middleware.StandingMiddleware",
    "projects.middleware.LoginAgainMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "projects.middleware.SecondFactorMiddleware",
    "projects.middleware.SeenMiddleware",
]

ROOT_URLCONF = "migrationhub.urls"
CSRF_FAILURE_VIEW = "projects.views.errors.csrf_failure"
WSGI_APPLICATION = "migrationhub.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.csp",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": env.database(env.text("DATABASE_URL") or "sqlite:///", VAR_DIR)}
if "sqlite3" in str(DATABASES["default"]["ENGINE"]):
    keys.kept_private(Path(str(DATABASES["default"]["NAME"])))  # sessions and host names are nobody else's to read
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "overview"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_ADAPTER = "projects.accounts.AccountAdapter"  # sign-up is closed: people are invited
ACCOUNT_EMAIL_VERIFICATION = "none"  # an address comes from an invitation that reached it, or from the team
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False  # nobody gets mail because somebody typed their address
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[migrationhub] "
MFA_ADAPTER = "projects.accounts.SecondFactor"
MFA_FORMS = {"authenticate": "projects.accounts.CodeForm"}
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_TOTP_ISSUER = "migrationhub"
REQUIRE_SECOND_FACTOR = env.choice("REQUIRE_SECOND_FACTOR", ("off", "leads", "all"))  # before any page
MFA_TOTP_TOLERANCE = 1  # a code that ran out while it was typed
# What limits guessing must be known to all web processes, and to all machines on PostgreSQL: a table, not memory.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache",
        "OPTIONS": {"MAX_ENTRIES": 20_000},
    }
}

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"  # storage and default; a project names its own zone for people
USE_TZ = True
USE_I18N = False

# What people attach as evidence: outside of what is served as files, handed out by a view that asks who may see it.
ATTACHMENTS_DIR = VAR_DIR / "attachments"
ATTACHMENT_BYTES = env.number("ATTACHMENT_MIB", 10) * 1024 * 1024
ATTACHMENTS_BYTES = env.number("ATTACHMENTS_MIB", 2048) * 1024 * 1024  # of one project
FILE_UPLOAD_HANDLERS = [
    "migrationhub.lib.uploads.CappedUploadHandler",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if not DEBUG
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
SITE_URL = env.text("SITE_URL").rstrip("/")  # where links in mails lead; empty: where the browser that asked is
MAIL_SENT = bool(env.text("SMTP_HOST"))  # pages say so where it is not
MAILERS = {
    "default": mailer(
        env.text("SMTP_HOST"),
        env.number("SMTP_PORT", 587),
        security=env.text("SMTP_SECURITY", "starttls"),
        user=env.text("SMTP_USER"),
        password=env.text("SMTP_PASSWORD"),
    )
}
NOTICE_GROUP = env.number("NOTICE_GROUP", 30)  # seconds that a message waits for more to say about the same wave
WEBHOOK_HTTP_HOSTS = env.words("WEBHOOK_HTTP_HOSTS")  # to which webhooks may post without TLS
DEFAULT_FROM_EMAIL = env.text("MAIL_FROM", "migrationhub@localhost")
ACCOUNT_EMAIL_NOTIFICATIONS = MAIL_SENT  # of a changed password or second factor

SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF, CSP.NONCE],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF, "data:"],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.NONE],
}
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SILENCED_SYSTEM_CHECKS = [
    "security.W021",  # a house's own host is in no browser's preload list
    "fields.E180",  # “does not support JSONFields” is what Django makes of a SQLite that somebody else writes to
]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None

WORKERS = env.number("WORKERS", 4)
# django-q2 is a trigger, never a ledger: short acts, the rows in `servers.models.run` are the truth.
Q_CLUSTER = {
    "name": "migrationhub",
    "orm": "default",
    "workers": WORKERS,
    "queue_limit": 1,
    "bulk": 1,
    "poll": 0.2,
    "timeout": 300,
    "retry": 660,  # > timeout × (1 + ceil((queue_limit + bulk) / workers)) + 30
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,
    "recycle": 200,
    "save_limit": 100,
    "label": "Tasks",
    "time_zone": "UTC",
}

# Seconds that the tests shorten.
CONTROLLER_TICK = float(env.text("CONTROLLER_TICK", "0.5"))
CONTROLLER_LEASE = float(env.text("CONTROLLER_LEASE", "10"))
# A message that waits so long beside idle workers says that they are stuck; they are started anew.
TASK_PATIENCE = float(env.text("TASK_PATIENCE", "30"))
# Acts that run at the same time; more wait as queued, and the page says so.
RUN_LIMIT = env.number("RUN_LIMIT", 16)
DEBUG_PROPAGATE_EXCEPTIONS = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {"paramiko": {"level": "CRITICAL"}, "urllib3": {"level": "WARNING"}},
}
