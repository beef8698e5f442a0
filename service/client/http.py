"""HTTP clients."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from service.addresses import is_loopback


def http_client(base_url: str, timeout: float, headers: dict[str, str] | None = None) -> httpx.Client:
    """Return a client of one server; `timeout` in seconds, `headers` are sent with every request.

    Proxies from the environment are not used for loopback addresses.
    """
    return httpx.Client(
        base_url=base_url,
        timeout=timeout,
        headers=headers,
        trust_env=not is_loopback(urlsplit(base_url).hostname or ""),
    )
