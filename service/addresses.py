"""Addresses of machines."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`: `localhost`, or an IP address of the loopback interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of host:port; an IPv6 address is in brackets. Raises ValueError for anything else."""
    wrong = ValueError("must be host:port, such as 127.0.0.1:6379 or [::1]:6379, with a port from 1 to 65535")
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if not host or not port or parts.netloc != address or "@" in address:
        raise wrong
    return host, port


def http_url(host: str, port: int) -> str:
    """The URL of a server at a host name or an IP address."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
