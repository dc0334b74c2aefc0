"""Addresses: the disguises that are known, and the ends of the tables."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.addresses import refusal

# Host part of a URL as somebody might write it → what the resolver makes of it.
DISGUISES = ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("host", DISGUISES)
def test_disguised_loopback_is_seen_after_resolving(host: str) -> None:
    addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)}
    assert addresses
    assert all(refusal(address, allow_private=False) for address in addresses)


NEVER = [
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:1::1",
    "::127.0.0.1",
    "::",
    "192.0.0.8",
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "203.0.113.7",
    "2001:db8::1",
    "64:ff9b:1::1",
    "100::1",
    "not an address",
]
PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "::1",
    "fd00::1",
    "fec0::1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
]
PUBLIC = [
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "1.1.1.1",
]


@pytest.mark.parametrize("address", NEVER)
def test_special_addresses_are_never_allowed(address: str) -> None:
    assert refusal(address, allow_private=False)
    assert refusal(address, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_permission(address: str) -> None:
    reason = refusal(address, allow_private=False)
    assert reason is not None
    assert "allow_private" in reason
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert refusal(address, allow_private=False) is None


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_we_are_never_laxer_than_the_standard_library(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if refusal(str(address), allow_private=False) is None:
        inner = getattr(address, "ipv4_mapped", None) or address
        assert inner.is_global or address in ipaddress.ip_network("64:ff9b::/96")
        assert not inner.is_multicast
