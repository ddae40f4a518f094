"""Our own certificate: made once, told in time that it ends, never renewed by itself, switched by a person."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from connectors import RefusedError
from connectors.opcua.own import Own, host_name, make

URI = "urn:plant:gateway"


def own(folder: Path, uri: str | None = URI) -> Own:
    """Ours in this folder."""
    return Own(folder, uri, "line 1")


def aged(folder: Path, left: timedelta, uri: str = URI) -> bytes:
    """Put a certificate there that ends so soon; its bytes."""
    lifetime = timedelta(days=400)
    make(folder / "own", uri, since=datetime.now(UTC) + left - lifetime, lifetime=lifetime)
    return (folder / "own" / "certificate.der").read_bytes()


def certificate(folder: Path) -> bytes:
    """The one in use."""
    return (folder / "own" / "certificate.der").read_bytes()


def test_the_first_certificate(tmp_path: Path) -> None:
    """It carries URI and host names, is made once, and its key is nobody else's to read."""
    mine = own(tmp_path, None).use()
    found = x509.load_der_x509_certificate(mine.certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"urn:{host_name()}:headrace:line 1"]
    assert mine.application_uri == f"urn:{host_name()}:headrace:line 1"
    assert host_name() in names.get_values_for_type(x509.DNSName)
    assert stat.S_IMODE(mine.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(mine.key.parent.stat().st_mode) == 0o700
    before = certificate(tmp_path)
    assert own(tmp_path, None).use() == mine
    assert own(tmp_path, None).tend() == ()
    assert certificate(tmp_path) == before
    assert [one.use for one in own(tmp_path, None).shown()] == ["current"]


def test_before_first_use(tmp_path: Path) -> None:
    """Looking makes nothing, not even a folder, and there is nothing to switch to."""
    assert own(tmp_path / "absent").shown() == ()
    assert not (tmp_path / "absent").exists()
    with pytest.raises(RefusedError, match="not prepared"):
        own(tmp_path).switch()


def test_an_end_that_comes_near_is_told_and_prepared_for(tmp_path: Path) -> None:
    """60 days before, the operator is told the date, the file and the command; the old one is used on."""
    before = aged(tmp_path, timedelta(days=59, hours=23))
    assert own(tmp_path).use().certificate.read_bytes() == before
    (note,) = own(tmp_path).tend()
    assert f"{datetime.now(UTC) + timedelta(days=59, hours=23):%Y-%m-%d}, in 59 days" in note
    assert str(tmp_path / "own" / "next" / "certificate.der") in note
    assert "headrace trust switch --connection 'line 1'" in note
    current, following = own(tmp_path).shown()
    assert (current.use, following.use) == ("current", "next")
    assert current.certificate.fingerprint != following.certificate.fingerprint
    assert stat.S_IMODE((tmp_path / "own" / "next" / "key.pem").stat().st_mode) == 0o600
    prepared = Path(following.file).read_bytes()
    own(tmp_path).tend()
    assert Path(following.file).read_bytes() == prepared
    assert certificate(tmp_path) == before


def test_61_days_are_no_news(tmp_path: Path) -> None:
    """Nothing is said and nothing is made before it is time."""
    aged(tmp_path, timedelta(days=61))
    assert own(tmp_path).tend() == ()
    assert len(own(tmp_path).shown()) == 1


def test_no_silent_renewal(tmp_path: Path) -> None:
    """An expired certificate is refused with the command that mends it; only the switch puts the new one to use."""
    before = aged(tmp_path, timedelta(days=-1))
    with pytest.raises(RefusedError, match=r"our own certificate is valid from .*headrace trust switch --connection"):
        own(tmp_path).use()
    assert certificate(tmp_path) == before
    following = own(tmp_path).shown()[1]
    switched = own(tmp_path).switch()
    assert switched.certificate == following.certificate
    assert own(tmp_path).use().certificate.read_bytes() != before
    assert own(tmp_path).tend() == ()
    assert (tmp_path / "own.previous" / "certificate.der").read_bytes() == before
    assert [one.use for one in own(tmp_path).shown()] == ["current"]


def test_another_uri_is_told_and_not_taken(tmp_path: Path) -> None:
    """The peers know the old URI: it is used, in certificate and in words, until the switch."""
    own(tmp_path).use()
    mine = own(tmp_path, "urn:other").use()
    assert mine.application_uri == URI
    (note,) = own(tmp_path, "urn:other").tend()
    assert "names urn:plant:gateway, and urn:other is configured" in note
    own(tmp_path, "urn:other").switch()
    assert own(tmp_path, "urn:other").use().application_uri == "urn:other"
    assert own(tmp_path, "urn:other").tend() == ()


def test_a_next_one_that_no_longer_fits_is_made_again(tmp_path: Path) -> None:
    """Configured once more before the switch: what is prepared is for what is configured now."""
    own(tmp_path).use()
    own(tmp_path, "urn:b").tend()
    first = own(tmp_path).shown()[1].certificate
    own(tmp_path, "urn:c").tend()
    second = own(tmp_path).shown()[1].certificate
    assert (first.application_uri, second.application_uri) == ("urn:b", "urn:c")


def test_another_host_name_is_told(tmp_path: Path) -> None:
    """A certificate of a machine that was called otherwise is used on, and the operator hears of it."""
    own(tmp_path).use()
    issued = _of_host("old-name.example")
    (tmp_path / "own" / "certificate.der").write_bytes(issued[0])
    (tmp_path / "own" / "key.pem").write_bytes(issued[1])
    assert own(tmp_path).use().application_uri == URI
    (note,) = own(tmp_path).tend()
    assert f"names the host old-name.example, and this machine is called {host_name()}" in note


def _of_host(host: str) -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=900))
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI), x509.DNSName(host)])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.DER), pem


@pytest.mark.parametrize("harm", ["absent", "noise", "another's"])
def test_a_key_that_is_lost_is_not_replaced_in_silence(tmp_path: Path, harm: str) -> None:
    """Whatever happened to the key, the peers trust the certificate: we say so, and prepare another."""
    key = own(tmp_path).use().key
    before = certificate(tmp_path)
    if harm == "absent":
        key.unlink()
    else:
        key.write_bytes(b"noise" if harm == "noise" else own(tmp_path / "else").use().key.read_bytes())
    with pytest.raises(RefusedError, match=r"our own certificate cannot be used.*headrace trust switch"):
        own(tmp_path).use()
    assert certificate(tmp_path) == before
    own(tmp_path).switch()
    own(tmp_path).use()


def test_a_first_use_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    """A key without a certificate was never shown to anyone."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "key.pem").write_bytes(b"half")
    own(tmp_path).use()
    assert own(tmp_path).tend() == ()


@pytest.mark.parametrize("after", [1, 2])
def test_a_switch_that_was_cut_off(tmp_path: Path, after: int) -> None:
    """Killed between two moves, either the old pair is whole again or the new one is; never a mixture."""
    before = aged(tmp_path, timedelta(days=10))
    own(tmp_path).tend()
    (tmp_path / "own" / "next").rename(tmp_path / "own.switching")
    if after == 2:
        (tmp_path / "own").rename(tmp_path / "own.previous")
    mine = own(tmp_path).use()
    assert (mine.certificate.read_bytes() == before) == (after == 1)
    assert [one.use for one in own(tmp_path).shown()] == (["current", "next"] if after == 1 else ["current"])
    assert not (tmp_path / "own.switching").exists()


def test_a_command_and_the_gateway_take_turns(tmp_path: Path) -> None:
    """While one holds the folder the other waits, and then finds it whole."""
    aged(tmp_path, timedelta(days=10))
    own(tmp_path).tend()
    errors: list[Exception] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            try:
                own(tmp_path).use()
                own(tmp_path).tend()
            except (OSError, RefusedError) as error:
                errors.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(20):
        own(tmp_path).switch()
        make(tmp_path / "own" / "next", URI)
    stop.set()
    looking.join()
    assert errors == []


def test_a_moved_key_keeps_its_owner(tmp_path: Path) -> None:
    """The switch moves files, so that a key made by the gateway's account stays readable for it alone."""
    aged(tmp_path, timedelta(days=10))
    own(tmp_path).tend()
    before = (tmp_path / "own" / "next" / "key.pem").stat()
    own(tmp_path).switch()
    after = (tmp_path / "own" / "key.pem").stat()
    assert (before.st_ino, before.st_mode, before.st_uid) == (after.st_ino, after.st_mode, after.st_uid)
