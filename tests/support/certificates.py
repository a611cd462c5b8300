"""Certificates for TLS servers that tests start."""

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

KEYS: Final[dict[str, Callable[[], Key]]] = {
    "EC": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}

USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class Certificate:
    """A certificate, and a TLS server's context with it and those that signed it."""

    path: Path
    key_path: Path
    context: ssl.SSLContext
    x509: x509.Certificate
    key: Key


def a_certificate(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    issuer: Certificate | None = None,
    ca: bool | None = True,
    critical: bool = True,
    bare: bool = False,
    expired: bool = False,
    renews: Certificate | None = None,
    kind: Literal["EC", "RSA", "Ed25519"] = "EC",
) -> Certificate:
    """Make one, and a key.

    Args:
        folder: Where their files are; made where it isn't there.
        host: Whose it is.
        issuer: Who signed it; None for itself.
        ca: Whether it says that it may sign others; None: it doesn't say.
        critical: Whether it says so as RFC 5280 wants it.
        bare: It has no key usage, and says nothing of its key's identifier and its issuer's.
        expired: It was valid once.
        renews: The one whose name and key it has; None for ones of its own.
        kind: Of which kind its key is.
    """
    key = renews.key if renews else KEYS[kind]()
    name = (
        renews.x509.subject
        if renews
        else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"a test {x509.random_serial_number():x}")])
    )
    alternative = x509.DNSName(host) if host[0].isalpha() else x509.IPAddress(ipaddress.ip_address(host))
    begin = datetime.now(UTC) - timedelta(days=2)
    signer, issuing_key = (name, key) if issuer is None else (issuer.x509.subject, issuer.key)
    builder = (
        x509.CertificateBuilder(signer, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1 if expired else 30))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=critical)
    if not bare:
        signs = {"digital_signature": True, "key_encipherment": True, "key_cert_sign": bool(ca)}
        builder = (
            builder.add_extension(x509.KeyUsage(**{usage: signs.get(usage, False) for usage in USAGES}), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing_key.public_key()), critical=False)
        )
    digest = None if isinstance(issuing_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return _kept(folder, builder.sign(issuing_key, digest), key, issuer)


def _kept(folder: Path, certificate: x509.Certificate, key: Key, issuer: Certificate | None) -> Certificate:
    folder.mkdir(parents=True, exist_ok=True)
    path, key_path = folder / "server.crt", folder / "server.key"
    chain = b"" if issuer is None else issuer.path.read_bytes()
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + chain)
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key_path)
    return Certificate(path, key_path, context, certificate, key)
