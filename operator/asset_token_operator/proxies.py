"""Which proxy is on the way to a server, by the usual variables; settled once, and in the same way for both clients."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit


def proxy_for(url: str) -> str | None:
    """The proxy that `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name for a URL; None where there is none.

    Plain http goes to loopback only, where through a proxy it would leave it.

    Raises:
        ValueError: It is none that can be used.
    """
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if parts.scheme == "http" or not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https") or not urlsplit(proxy).hostname:
        raise ValueError("not a proxy that speaks http or https")
    return proxy
