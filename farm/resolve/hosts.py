"""What the machine's own files say: hosts(5) and the name servers of resolv.conf(5). Text in, values out.

Reading the files, and reading them again when they change, is the resolver's.
"""

from __future__ import annotations

from typing import Final

from farm.resolve.records import Question, numeric_address

DNS_PORT: Final = 53

Hosts = dict[Question, tuple[str, ...]]
Server = tuple[str, int]


def parse_hosts(text: str) -> Hosts:
    """The addresses of each name of a hosts(5) file, as answers to questions of kind "A" and "AAAA".

    A name that has addresses of one family only is there with none of the other, since the file has the last word.
    """
    found: dict[Question, list[str]] = {}
    for line in text.split("\n"):
        fields = line.partition("#")[0].split()
        address = numeric_address(fields[0]) if fields else ""
        if not address:
            continue
        family, other = ("AAAA", "A") if ":" in address else ("A", "AAAA")
        for field in fields[1:]:
            name = field.lower().removesuffix(".")
            known = found.setdefault(Question(family, name), [])
            if address not in known:
                known.append(address)
            found.setdefault(Question(other, name), [])
    return {question: tuple(addresses) for question, addresses in found.items()}


def parse_resolv_conf(text: str) -> list[Server]:
    """The name servers of a resolv.conf(5), this machine when it names none; search lists do not concern SIP."""
    servers: list[Server] = []
    for line in text.split("\n"):
        fields = line.split()
        if len(fields) > 1 and fields[0] == "nameserver":
            address = numeric_address(fields[1])
            if address:
                servers.append((address, DNS_PORT))
    return servers or [("127.0.0.1", DNS_PORT)]


def parse_server(text: str) -> Server:
    """A name server from `HOST`, `HOST:PORT`, `IPv6` or `[IPv6]:PORT`; raises ValueError."""
    address = numeric_address(text)
    if address:
        return address, DNS_PORT
    host, colon, port = text.rpartition(":")
    address = numeric_address(host)
    if not colon or not address or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65_536:
        raise ValueError(f'"{text}" is not the numeric address of a name server')
    return address, int(port)
