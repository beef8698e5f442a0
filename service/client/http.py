"""HTTP clients."""

from __future__ import annotations

import os
from urllib.request import getproxies, proxy_bypass

import httpx

from service.addresses import is_loopback
from service.client.errors import AddressError
from service.short_text import quoted

LONGEST_QUOTE = 80  # characters of a URL in a message


def http_client(base_url: str, timeout: float, headers: dict[str, str] | None = None) -> httpx.Client:
    """Return a client of one server; `timeout` in seconds, `headers` are sent with every request.

    The proxy is that of the environment (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY), except for loopback addresses and those
    in NO_PROXY. Raises AddressError if the URL or the proxy cannot be used.
    """
    url = _parse(base_url)
    if url is None or url.scheme not in {"http", "https"}:
        raise AddressError(f"{quoted(base_url, LONGEST_QUOTE)} is not a URL such as http://127.0.0.1:8000")
    proxy, variable = (None, "") if is_loopback(url.host) else _proxy(url)
    # The value of the variable may contain a password, so the messages do not quote it.
    if proxy is not None and _parse(proxy) is None:
        raise _unusable(variable)
    try:
        # Without TLS the certificates, which take longer to load than a request, are not needed.
        transport = httpx.HTTPTransport(proxy=proxy, verify=url.scheme == "https")
    except ImportError as error:
        message = f"the proxy in {variable} is a SOCKS proxy, which needs a package: pip install 'httpx[socks]'"
        raise AddressError(message) from error
    except ValueError as error:
        raise _unusable(variable) from error
    return httpx.Client(base_url=url, timeout=timeout, headers=headers, transport=transport)


def _parse(text: str) -> httpx.URL | None:
    """The URL, if it has a host and a port that can exist."""
    try:
        url = httpx.URL(text)
        # The name is encoded this way to find its address.
        valid = bool(url.host.encode("idna")) and "%" not in url.host and (url.port or 0) < 2**16
    except (httpx.InvalidURL, TypeError, UnicodeError):
        return None
    return url if valid else None


def _proxy(url: httpx.URL) -> tuple[str | None, str]:
    """The proxy for a URL, and the environment variable that contains it."""
    # httpx would prepare every proxy of the environment, and fail if one that is not needed cannot be used.
    proxies = getproxies()
    kind = url.scheme if proxies.get(url.scheme) else "all"
    proxy = proxies.get(kind)
    if not proxy or proxy_bypass(url.netloc.decode()):
        return None, ""
    variable = next((name for name in os.environ if name.lower() == f"{kind}_proxy"), "the system's setting")
    return (proxy if "://" in proxy else f"http://{proxy}"), variable


def _unusable(variable: str) -> AddressError:
    return AddressError(f"{variable} does not contain the URL of a proxy, such as http://proxy.example:3128")
