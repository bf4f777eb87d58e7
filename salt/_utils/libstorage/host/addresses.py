"""This host's addresses, as other hosts may know it."""

import ipaddress

import psutil


def is_own(address: str) -> bool:
    """Is it an address of one of this host's interfaces?"""
    every = [one.address for some in psutil.net_if_addrs().values() for one in some]
    return address in {one.partition("%")[0] for one in every}


def own() -> list[str]:
    """The addresses of all interfaces that others may reach, IPv4 first."""
    found = []
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            try:
                known = ipaddress.ip_address(address.address.partition("%")[0])
            except ValueError:
                continue
            if not (known.is_loopback or known.is_link_local):
                found.append(known)
    ordered = sorted(set(found), key=lambda address: (address.version, int(address)))
    return [str(address) for address in ordered] or ["127.0.0.1"]
