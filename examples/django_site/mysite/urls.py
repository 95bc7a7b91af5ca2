"""The site's one page."""

from django.urls import path
from guestbook.views import book

urlpatterns = [path("", book)]
