"""HTTP clients."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

import httpx


def http_client(base_url: str, timeout: float) -> httpx.Client:
    """Client for one server; `timeout` in seconds. A proxy of the environment is not asked for loopback addresses."""
    return httpx.Client(
        base_url=base_url, timeout=timeout, trust_env=not _is_loopback(urlsplit(base_url).hostname or "")
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
