"""Which addresses a notification may be sent to.

Python's own `is_private` and `is_global` disagree between patch releases and miss 64:ff9b::/96, 2002::/16,
100.64.0.0/10, fec0::/10, ::127.0.0.1 and 192.0.0.8, so the tables are our own, after the IANA special-purpose
address registries (RFC 6890 and its successors).
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# Inside networks: reachable only when the receiver says allow_private.
_PRIVATE_4 = tuple(
    IPv4Network(text)
    for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_PRIVATE_6 = tuple(IPv6Network(text) for text in ("::1/128", "fc00::/7", "fec0::/10"))
# Nobody's receiver, ever. 169.254/16 is where clouds keep their credentials.
_NEVER_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")
# Teredo and other protocol assignments, documentation, 6to4: global in form, but they lead elsewhere.
_NEVER_6 = tuple(
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_NAT64 = IPv6Network("64:ff9b::/96")


def refusal(address: str, *, allow_private: bool) -> str | None:
    """Say why a numeric address must not be connected to, or None when it may be.

    IPv4 inside IPv6 (mapped, or behind the well-known NAT64 prefix, which is all that IPv6-only networks
    see of the IPv4 internet) is judged as the IPv4 address it reaches.
    """
    try:
        ip = _embedded(ip_address(address.partition("%")[0]))
    except ValueError:
        return "not a numeric address"
    if isinstance(ip, IPv4Address):
        private, never = _within(ip, _PRIVATE_4), _within(ip, _NEVER_4)
    else:
        private = _within(ip, _PRIVATE_6)
        never = not private and (ip not in _GLOBAL_6 or _within(ip, _NEVER_6))
    if never:
        return f"{ip} is a special-purpose address"
    if private and not allow_private:
        return f"{ip} is a private address; set allow_private for this receiver if that is meant"
    return None


def _embedded(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


def _within(ip: IPv4Address | IPv6Address, networks: Sequence[IPv4Network] | Sequence[IPv6Network]) -> bool:
    return any(ip in network for network in networks)
