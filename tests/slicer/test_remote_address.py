"""Where a service is, by which way it is reached, and what the network says, in words."""

from __future__ import annotations

import socket
import ssl

import pytest

from MedSegLib.remote import Remote
from MedSegLib.service.address import door
from MedSegLib.service.trouble import Trouble, of_error
from tests.slicer.actor import html
from tests.slicer.heard import TOKEN, failure, outcome
from tests.slicer.rude import stranger
from tests.slicer.serving import certificates


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://medseg.hospital.example:8080", "where others can read"),
        ("http://10.0.0.1", "where others can read"),
        ("http://localhost.example", "where others can read"),
        ("medseg.hospital.example", "does not begin with https://"),
        ("ftp://127.0.0.1", "does not begin with https://"),
        ("https://", "does not begin with https://"),
        ("", "does not begin with https://"),
        ("https://me:secret@medseg.example", "more than a name"),
        ("https://medseg.example/?token=1", "more than a name"),
        ("https://medseg.example:port", "is no address"),
        ("https://a..b", "is no address"),
        ("https://medseg.example/a b", "letters that cannot stand"),
    ],
)
def test_addresses_that_will_not_do(address, words):
    assert words in failure(Remote(address, TOKEN).me()).what


@pytest.mark.parametrize("token", ["", "  ", "two words", "a\nb", "schlüssel"])
def test_tokens_that_will_not_do(token):
    found = outcome(Remote("https://127.0.0.1:1", token).me()).failure
    assert found and found.code == "no-token" and "medseg tokens add" in found.remedy


@pytest.mark.parametrize(
    ("address", "place", "prefix"),
    [
        ("https://Medseg.example", "medseg.example:443", ""),
        (" https://medseg.example:8443/ ", "medseg.example:8443", ""),
        ("https://medseg.example/ai/api/v1/", "medseg.example:443", "/ai"),
        ("http://localhost:8080", "localhost:8080", ""),
        ("http://[::1]:8080", "[::1]:8080", ""),
        ("http://127.9.9.9", "127.9.9.9:80", ""),
    ],
)
def test_addresses_as_people_type_them(address, place, prefix):
    found = door(address, TOKEN, None)
    assert (found.place, found.prefix) == (place, prefix) and TOKEN not in repr(found)


def test_a_proxy_sees_no_token(monkeypatch):
    with stranger(lambda method, path: html(403)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:pass@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        found = failure(Remote("https://medseg.hospital.example:8443", TOKEN).me())
        assert "proxy" in found.what and TOKEN not in proxy.heard[0]
        assert (
            proxy.heard[0].startswith("CONNECT medseg.hospital.example:8443") and "Basic bWU6cGFzcw==" in proxy.heard[0]
        )
        monkeypatch.setenv("no_proxy", "hospital.example")
        assert door("https://medseg.hospital.example", TOKEN, None).proxy() is None
    monkeypatch.setenv("no_proxy", "")
    for text in ("socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1:port"):
        monkeypatch.setenv("https_proxy", text)
        with pytest.raises(Trouble, match="proxy"):
            door("https://medseg.hospital.example", TOKEN, None).proxy()
    assert door("http://127.0.0.1:1", TOKEN, None).proxy() is None


def test_a_ca_file_may_say_what_it_is_in_any_language(tmp_path):
    certificates(tmp_path)
    text = "# Universitätsklinikum\n" + (tmp_path / "ca.pem").read_text()
    for encoding in ("utf-8-sig", "latin-1"):
        (tmp_path / "klinik ü.pem").write_text(text, encoding=encoding)
        trust = door("https://medseg.example", TOKEN, tmp_path / "klinik ü.pem").trust()
        assert len(trust.get_ca_certs()) == 1
    (tmp_path / "none.pem").write_text("# Universitätsklinikum\n", encoding="utf-8")
    with pytest.raises(Trouble, match="CA file"):
        door("https://medseg.example", TOKEN, tmp_path / "none.pem").trust()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "No machine of the name"),
        (ConnectionResetError(), "broke"),
        (OSError(113, "No route to host"), "broke"),
        (
            ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required"),
            "certificate from",
        ),
    ],
)
def test_errors_of_the_network_in_words(error, words):
    assert words in of_error(error, "medseg.example:443").failure.what
