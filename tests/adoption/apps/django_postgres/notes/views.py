from django.conf import settings
from django.core.files.base import ContentFile
from django.http import FileResponse, JsonResponse
from django.shortcuts import get_object_or_404, render

from .models import Note

HEADING = "Notes"


def index(request):
    context = {"heading": HEADING, "owner": settings.SITE_OWNER, "motto": settings.SITE_MOTTO}
    return render(request, "notes/index.html", context)


def notes(request):
    if request.method == "POST":
        note = Note(text=request.POST["text"])
        note.attachment.save(f"{note.text}.txt", ContentFile(note.text.encode()))
    return JsonResponse({"notes": list(Note.objects.order_by("id").values("id", "text"))})


def attachment(request, note_id):
    return FileResponse(get_object_or_404(Note, pk=note_id).attachment.open("rb"))
