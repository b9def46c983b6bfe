"""Addresses of the pages that set a project up."""

from __future__ import annotations

from django.urls import path

from projects.views import setup_access, setup_people, setup_plan, setup_servers, setup_waves

P = "projects/<slug:slug>/"

urlpatterns = [
    path("projects/new/", setup_people.project_new, name="project-new"),
    path(P + "setup/", setup_people.project_setup, name="project-setup"),
    path(P + "setup/edit/", setup_people.project_edit, name="project-edit"),
    path(P + "members/", setup_people.members, name="members"),
    path(P + "members/<int:pk>/role/", setup_people.member_role, name="member-role"),
    path(P + "members/<int:pk>/remove/", setup_people.member_remove, name="member-remove"),
    path(P + "applications/", setup_people.applications, name="applications"),
    path(P + "applications/new/", setup_people.application_new, name="application-new"),
    path(P + "applications/<int:pk>/", setup_people.application_edit, name="application-edit"),
    path(P + "credentials/", setup_access.credentials, name="credentials"),
    path(P + "credentials/new/", setup_access.credential_new, name="credential-new"),
    path(P + "credentials/<int:pk>/", setup_access.credential_edit, name="credential-edit"),
    path(P + "platforms/", setup_access.platforms, name="platforms"),
    path(P + "platforms/new/", setup_access.platform_new, name="platform-new"),
    path(P + "platforms/<int:pk>/", setup_access.platform, name="platform"),
    path(P + "platforms/<int:pk>/edit/", setup_access.platform_edit, name="platform-edit"),
    path(P + "platforms/<int:pk>/check/", setup_access.platform_check, name="platform-check"),
    path(P + "name-servers/", setup_access.name_servers, name="name-servers"),
    path(P + "name-servers/new/", setup_access.name_server_new, name="name-server-new"),
    path(P + "name-servers/<int:pk>/", setup_access.name_server_edit, name="name-server-edit"),
    path(P + "servers/", setup_servers.servers, name="servers"),
    path(P + "servers/check/", setup_servers.servers_check, name="servers-check"),
    path(P + "servers/new/", setup_servers.server_new, name="server-new"),
    path(P + "servers/many/", setup_servers.server_many, name="server-many"),
    path(P + "servers/<int:pk>/", setup_servers.server, name="server"),
    path(P + "servers/<int:pk>/edit/", setup_servers.server_edit, name="server-edit"),
    path(P + "servers/<int:pk>/check/", setup_servers.server_check, name="server-check"),
    path(P + "servers/<int:pk>/withdraw/", setup_servers.server_withdraw, name="server-withdraw"),
    path(P + "host-keys/", setup_servers.host_keys, name="host-keys"),
    path(P + "host-keys/known-hosts/", setup_servers.known_hosts, name="known-hosts"),
    path(P + "host-keys/<int:pk>/accept/", setup_servers.host_key_accept, name="host-key-accept"),
    path(P + "host-keys/<int:pk>/refuse/", setup_servers.host_key_refuse, name="host-key-refuse"),
    path(P + "profiles/", setup_waves.profiles, name="profiles"),
    path(P + "profiles/new/", setup_waves.profile_new, name="profile-new"),
    path(P + "profiles/<int:pk>/", setup_waves.profile_edit, name="profile-edit"),
    path(P + "waves/", setup_waves.waves, name="waves"),
    path(P + "waves/new/", setup_waves.wave_new, name="wave-new"),
    path(P + "waves/<int:pk>/", setup_waves.wave_edit, name="wave-edit"),
    path(P + "freezes/new/", setup_waves.freeze_new, name="freeze-new"),
    path(P + "freezes/<int:pk>/", setup_waves.freeze_edit, name="freeze-edit"),
    path(P + "freezes/<int:pk>/remove/", setup_waves.freeze_remove, name="freeze-remove"),
    path(P + "planning/", setup_plan.planning, name="planning"),
    path("migrations/<int:pk>/plan/", setup_plan.plan, name="plan"),
    path("migrations/<int:pk>/plan/remove/", setup_plan.plan_remove, name="plan-remove"),
    path("migrations/<int:pk>/probes/new/", setup_plan.probe_new, name="probe-new"),
    path("probes/<int:pk>/", setup_plan.probe_edit, name="probe-edit"),
    path("probes/<int:pk>/remove/", setup_plan.probe_remove, name="probe-remove"),
]
