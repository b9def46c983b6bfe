"""All addresses."""

from django.urls import include, path

from projects.views.account import too_many

urlpatterns = [
    path("", include("projects.urls_people")),
    path("", include("projects.urls")),
]
handler429 = too_many  # of allauth
handler400 = "projects.views.errors.bad_request"
