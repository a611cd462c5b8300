"""How servers are verified: the chain, the name and the time, as kubectl and curl do, whatever this Python adds.

Python 3.13 is stricter by default, and then refuses the CAs of clusters and proxies that all others take (ADR 11).
"""

from __future__ import annotations

import ssl


def verify_as_kubectl(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let it verify no less and no more than that; returns it."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # fields of RFC 5280 that a private CA's certificates may lack
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what is trusted needn't have signed itself
    return context
