"""The mesh's own CA: what is in the certificates that it issues, and what it refuses to be."""

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from certs import bare
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tls.authority import BACKDATE, Authority, Identity
from tls.errors import IdentityError
from tls.fingerprint import Fingerprint


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("a mesh")


def _leaf(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.cert_pem)


def _value(certificate: x509.Certificate, kind: Any) -> Any:
    return certificate.extensions.get_extension_for_class(kind).value


def test_a_ca_may_sign_leaves_and_nothing_else() -> None:
    """It is a CA with no room for another below it, and its key signs certificates only."""
    certificate = x509.load_pem_x509_certificate(Authority.create("a mesh", days=10).cert_pem)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.digital_signature) == (True, True, False)
    assert certificate.subject == certificate.issuer
    now = datetime.now(UTC)
    assert now - BACKDATE - timedelta(minutes=1) < certificate.not_valid_before_utc < now
    assert now + timedelta(days=9) < certificate.not_valid_after_utc < now + timedelta(days=10, minutes=1)


@pytest.mark.parametrize("key_type", ["ec", "rsa", "ed25519"])
def test_a_leaf_has_what_tls_asks_of_it(authority: Authority, key_type: Any) -> None:
    """Signed by the CA, no CA itself, for servers and clients, with names, identifiers and its own key."""
    identity = authority.issue("desk", hosts=("desk.local", "192.0.2.7", "2001:db8::7"), key_type=key_type)
    leaf, ca = _leaf(identity), x509.load_pem_x509_certificate(authority.cert_pem)
    leaf.verify_directly_issued_by(ca)
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.digital_signature, usage.value.key_cert_sign, usage.value.crl_sign) == (True, False, False)
    assert set(_value(leaf, x509.ExtendedKeyUsage)) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    names = _value(leaf, x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["desk.local"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("192.0.2.7"),
        ipaddress.ip_address("2001:db8::7"),
    ]
    issuer = _value(leaf, x509.AuthorityKeyIdentifier).key_identifier
    assert issuer == _value(ca, x509.SubjectKeyIdentifier).digest
    key = serialization.load_pem_private_key(identity.key_pem, None)
    assert key.public_key() == leaf.public_key()
    expected = {"ec": ec.EllipticCurvePrivateKey, "rsa": rsa.RSAPrivateKey, "ed25519": ed25519.Ed25519PrivateKey}
    assert isinstance(key, expected[key_type])
    assert identity.fingerprint == Fingerprint.of_pem(identity.cert_pem)


def test_another_ca_did_not_sign_it(authority: Authority) -> None:
    """Control: the same check of the signature fails for another CA of the same name."""
    leaf = _leaf(authority.issue("desk"))
    with pytest.raises(InvalidSignature):
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(Authority.create("a mesh").cert_pem))


def test_validity_is_what_was_asked_for(authority: Authority) -> None:
    """Days from now, a little into the past, or exactly the given moments."""
    now = datetime.now(UTC).replace(microsecond=0)
    leaf = _leaf(authority.issue("desk", days=30))
    assert now - BACKDATE - timedelta(minutes=1) < leaf.not_valid_before_utc <= now
    assert now + timedelta(days=29) < leaf.not_valid_after_utc < now + timedelta(days=30, minutes=1)
    begin, end = now - timedelta(days=9), now - timedelta(days=1)
    past = _leaf(authority.issue("desk", not_before=begin, not_after=end))
    assert (past.not_valid_before_utc, past.not_valid_after_utc) == (begin, end)


@pytest.mark.parametrize(
    ("purpose", "oid"), [("server", ExtendedKeyUsageOID.SERVER_AUTH), ("client", ExtendedKeyUsageOID.CLIENT_AUTH)]
)
def test_a_leaf_may_be_for_one_purpose(authority: Authority, purpose: Any, oid: x509.ObjectIdentifier) -> None:
    """What is asked for is all that it may do."""
    assert list(_value(_leaf(authority.issue("desk", purposes=(purpose,))), x509.ExtendedKeyUsage)) == [oid]


def test_each_certificate_is_its_own(authority: Authority) -> None:
    """Serial numbers, keys and fingerprints differ, even for the same name."""
    one, two = authority.issue("desk"), authority.issue("desk")
    assert _leaf(one).serial_number != _leaf(two).serial_number
    assert one.key_pem != two.key_pem
    assert one.fingerprint != two.fingerprint


def test_a_long_name_is_cut_to_what_a_certificate_holds(authority: Authority) -> None:
    """64 characters are the limit of a common name."""
    (name,) = _leaf(authority.issue("n" * 100)).subject
    assert name.value == "n" * 64


def test_a_key_is_not_shown(authority: Authority) -> None:
    """The private key is in no printed form of an identity."""
    identity = authority.issue("desk")
    assert "PRIVATE" not in repr(identity)
    assert "PRIVATE" not in str(identity)


def test_a_stored_ca_goes_on(authority: Authority) -> None:
    """Loaded from its files it signs what the first trusts."""
    again = Authority.load(authority.cert_pem, authority.key_pem)
    leaf = _leaf(again.issue("desk"))
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.cert_pem))
    assert again.cert_pem == authority.cert_pem
    assert again.key_pem == authority.key_pem


def _encrypted(authority: Authority) -> bytes:
    key = serialization.load_pem_private_key(authority.key_pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )


def _of_another_kind() -> tuple[bytes, bytes]:
    """A CA whose key signs in a way that no part of this program knows."""
    key = ed448.Ed448PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another kind")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, None)
    )
    pem = serialization.Encoding.PEM
    return certificate.public_bytes(pem), key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_what_is_no_pair_of_a_ca_is_refused(authority: Authority) -> None:
    """Another key, a leaf, a certificate without constraints, garbage and a locked key: each by name."""
    other, leaf = Authority.create("another"), authority.issue("desk")
    plain = bare("no CA", ca=False)
    for cert, key, words in (
        (authority.cert_pem, other.key_pem, "does not belong"),
        (leaf.cert_pem, leaf.key_pem, "not a CA's"),
        (plain.cert_pem, plain.key_pem, "not a CA's"),
        (b"garbage", authority.key_pem, "cannot be read"),
        (authority.cert_pem, b"garbage", "cannot be read"),
        (authority.cert_pem, b"", "cannot be read"),
        (authority.cert_pem, _encrypted(authority), "cannot be read"),
        (*_of_another_kind(), "does not belong"),
    ):
        with pytest.raises(IdentityError, match=words) as caught:
            Authority.load(cert, key)
        assert caught.value.next_step
