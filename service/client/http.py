"""HTTP clients."""

from __future__ import annotations

import os
from urllib.request import getproxies, proxy_bypass

import httpx

from service.addresses import is_loopback
from service.client.errors import AddressError


def http_client(base_url: str, timeout: float, headers: dict[str, str] | None = None) -> httpx.Client:
    """Return a client of one server; `timeout` in seconds, `headers` are sent with every request.

    The proxy is that of the environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY), except for loopback addresses and those
    in NO_PROXY. Raises AddressError if the URL or the proxy cannot be used.
    """
    url = _parse(base_url)
    transport = httpx.HTTPTransport() if is_loopback(url.host) else _transport(url)
    return httpx.Client(base_url=url, timeout=timeout, headers=headers, transport=transport)


def _parse(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as error:
        raise AddressError(f"{base_url!r} is not a valid URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise AddressError(f"{base_url!r} is not a URL such as http://127.0.0.1:8000")
    return url


def _transport(url: httpx.URL) -> httpx.HTTPTransport:
    # httpx would prepare every proxy of the environment, and fail if one that is not needed cannot be used.
    proxies = getproxies()
    kind = url.scheme if proxies.get(url.scheme) else "all"
    proxy = proxies.get(kind)
    if not proxy or proxy_bypass(url.netloc.decode()):
        return httpx.HTTPTransport()
    # The proxy's URL may contain a password, so the messages do not.
    name = next((name for name in os.environ if name.lower() == f"{kind}_proxy"), "the system's setting")
    try:
        return httpx.HTTPTransport(proxy=proxy if "://" in proxy else f"http://{proxy}")
    except ImportError as error:
        message = f"the proxy in {name} is a SOCKS proxy, which needs a package: pip install 'httpx[socks]'"
        raise AddressError(message) from error
    except (ValueError, httpx.InvalidURL) as error:
        raise AddressError(f"{name} does not contain the URL of a proxy, such as http://proxy.example:3128") from error
