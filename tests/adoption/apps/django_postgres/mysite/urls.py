"""URL configuration for mysite project."""

from django.urls import include, path

urlpatterns = [path("", include("notes.urls"))]
