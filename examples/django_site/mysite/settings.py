"""Django's settings, kept to what the guest book needs."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
# Signs nothing here: no sessions, no cookies. A real site reads it from its environment.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "for trying it out only")
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = ["guestbook"]
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("GUESTBOOK_DATABASE", BASE_DIR / ".data" / "guestbook.sqlite3"),
        "OPTIONS": {"timeout": 10},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
