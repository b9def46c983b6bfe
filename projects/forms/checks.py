"""What a value must be: names, addresses, PEM, keys. Each raises a sentence that names field and value."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re

from cryptography import x509

from migrationhub.lib.findings import Problem
from migrationhub.lib.reading import is_host, split_url
from servers.remote.base import Endpoint
from servers.remote.login import private_key

from .base import sentence

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)


def host_label(field: str, value: str) -> str:
    """A machine's short name: its instance and its records are named by it."""
    if not LABEL.fullmatch(value):
        raise sentence(
            f"{field} “{value}” is not a host name.",
            "Use letters, digits and hyphens, at most 63, such as shop-db; the domain belongs to the DNS name.",
        )
    return value


def domain_name(field: str, value: str) -> str:
    """A fully qualified name without the final dot, in lower case."""
    name = value.rstrip(".").lower()
    parts = name.split(".")
    good = len(parts) >= 2 and len(name) <= 253
    if not good or not all(re.fullmatch(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?", part) for part in parts):
        raise sentence(f"{field} “{value}” is not a domain name.", "Write it in full, such as db.shop.example.")
    return name


def zone_name(field: str, value: str) -> str:
    name = value.rstrip(".").lower()
    if not name or not all(re.fullmatch(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?", part) for part in name.split(".")):
        raise sentence(f"{field} “{value}” is not a DNS zone.", "Write the zone's name, such as shop.example.")
    return name


def address_or_name(field: str, value: str) -> str:
    """An IP address or a host name; never a URL, never with a port."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    labels = value.rstrip(".").split(".")
    numbers = all(label.isdigit() for label in labels)
    if numbers or len(value) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise sentence(
            f"{field} “{value}” is neither an IP address nor a host name.",
            "Write it like 10.1.2.3, fd00::3 or db1.example.com, without a port.",
        )
    return value.rstrip(".").lower()


def ip_address(field: str, value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise sentence(f"{field} “{value}” is not an IP address.", "Write it like 10.1.2.1 or fd00::1.") from None


def interface(field: str, value: str) -> str:
    """An address with its prefix that a machine can have."""
    example = "Write the address with the prefix of its network, such as 10.1.2.30/24."
    if "/" not in value:
        raise sentence(f"{field} “{value}” has no prefix.", example)
    try:
        found = ipaddress.ip_interface(value)
    except ValueError:
        raise sentence(f"{field} “{value}” is not an address with a prefix.", example) from None
    network = found.network
    single = network.prefixlen >= network.max_prefixlen - 1
    if not single and found.ip == network.network_address:
        raise sentence(f"{field} “{value}” is the network itself, not an address in it.", example)
    if found.version == 4 and not single and found.ip == network.broadcast_address:
        raise sentence(f"{field} “{value}” is the broadcast address of {network}.", example)
    if found.ip.is_multicast or found.ip.is_unspecified:
        raise sentence(f"{field} “{value}” is not an address that a machine can have.", example)
    return str(found)  # loopback is allowed: hosts of a directory under supervisord live there


def https_url(field: str, value: str) -> str:
    parts = split_url(value)
    if not value.lower().startswith("https://"):
        raise sentence(
            f"{field} “{value}” does not begin with https://.",
            "Write it like https://vme.example.com. A password never goes over a connection without TLS; "
            "a certificate that cannot be verified has a switch of its own below.",
        )
    if "@" in value:
        raise sentence(f"{field} holds a user name.", "Take it out of the URL: the account is the credential's.")
    if not parts.hostname or not is_host(parts.hostname) or not value.isprintable() or " " in value:
        raise sentence(
            f"{field} “{value}” has no host, or no port, that can be connected to.",
            "Write it like https://vme.example.com or https://10.1.2.3:8443, with a port from 1 to 65535.",
        )
    if parts.query or parts.fragment:
        raise sentence(f"{field} “{value}” goes on after the host.", "Write only https://host or https://host:port.")
    return value.rstrip("/")


def pem_bundle(field: str, text: str) -> str:
    if not text.strip():
        return ""
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        found = []
    if not found:
        raise sentence(
            f"{field} holds no certificate that can be read.",
            "Paste the CA certificates as PEM, each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.",
        )
    return text.strip() + "\n"


def ssh_key(text: str, passphrase: str) -> str:
    """A private key that opens with the passphrase. The key is never part of a message."""
    text = text.strip().replace("\r\n", "\n") + "\n"
    endpoint = Endpoint("key", "", private_key=text, passphrase=passphrase or None)
    try:
        private_key(endpoint)
    except Problem as problem:
        words = re.sub(r"^.*?: the private key of \S+ ", "", problem.text)
        raise sentence(f"Private key {words}", problem.act) from None
    return text


def tsig_secret(text: str) -> str:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw:
        raise sentence(
            "Secret is not base64.", "Give the key's secret as tsig-keygen prints it, without the quotes around it."
        )
    return text.strip()
