"""The URLs."""

from django.urls import path

from . import views

urlpatterns = [
    path("api/v1/recordings", views.Recordings.as_view()),
    path("health", views.health),
]
