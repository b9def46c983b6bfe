"""A stand-in for HPE VM Essentials: its API over HTTPS, its instances are hosts of the lab.

It helps no more than a real appliance: ids are its own, acts take time, a resize does not touch the guest's
configuration, X-Request-Id is ignored but for the journal.
"""
