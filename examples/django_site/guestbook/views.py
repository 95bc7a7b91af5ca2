"""The guest book: read it, or sign it."""

import os
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt

from guestbook.models import Entry


@csrf_exempt
def book(request: HttpRequest) -> HttpResponse:
    _make_table()
    if request.method == "POST":
        Entry.objects.create(name=request.POST["name"][:80])
    entries = Entry.objects.order_by("-id")[:20]
    return render(request, "book.html", {"entries": entries, "count": Entry.objects.count(), "pid": os.getpid()})


def _make_table() -> None:
    """So that the example needs no `manage.py migrate` before its first page."""
    Path(settings.DATABASES["default"]["NAME"]).parent.mkdir(exist_ok=True)
    if Entry._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Entry)
