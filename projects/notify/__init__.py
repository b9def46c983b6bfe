"""Telling people of changes of state: by e-mail to each person, by webhooks for a project.

The way of a change: the act writes its audit event, and with it, in the same transaction, a notice (`outbox`). The
controller works out what it says and who hears of it (`dealing`, `words`, `people`), as one message for each receiver
and wave; a short task hands each message over (`sending`, `mail`, `webhooks`).
"""
