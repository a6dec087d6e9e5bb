"""Hypothesis strategies for the language of SIP: tokens, URIs, addresses, Vias and whole messages, as text."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from farm.sip.grammar import CANONICAL, NAMES, quote

TOKEN_CHARACTERS = string.ascii_letters + string.digits + "-.!%*_+`'~"
UNRESERVED = string.ascii_letters + string.digits + "-_.!~*'()"

tokens = st.text(TOKEN_CHARACTERS, min_size=1, max_size=12)
numbers = st.integers(0, 2**31 - 1)
ports = st.none() | st.integers(1, 65535)
escapes = st.integers(0, 255).flatmap(lambda octet: st.sampled_from([f"%{octet:02x}", f"%{octet:02X}"]))


def written(characters: str, *, smallest: int = 1) -> st.SearchStrategy[str]:
    """Text of these characters and of escapes."""
    return st.lists(st.sampled_from(characters) | escapes, min_size=smallest, max_size=8).map("".join)


labels = st.from_regex(r"\A[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?\Z")
top_labels = st.from_regex(r"\A[a-zA-Z]([a-zA-Z0-9-]{0,4}[a-zA-Z0-9])?\Z")
host_names = st.builds(lambda parts, top: ".".join([*parts, top]), st.lists(labels, max_size=3), top_labels)
hosts = host_names | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address}]")

users = written(UNRESERVED + "&=+$,;?/")
passwords = written(UNRESERVED + "&=+$,", smallest=0)
uri_values = written(UNRESERVED + "[]/:&+$")
header_parts = st.tuples(written(UNRESERVED + "[]/?:+$"), written(UNRESERVED + "[]/?:+$", smallest=0))


@st.composite
def uri_params(draw: st.DrawFn) -> str:
    """Parameters of a URI, some of them known ones."""
    names = st.sampled_from(["transport", "lr", "user", "ttl", "maddr", "method", "ob", "x"]) | uri_values
    params: dict[str, str] = {}
    for name, value in draw(st.lists(st.tuples(names, st.none() | uri_values), max_size=4)):
        params.setdefault(name.lower(), f";{name}" if value is None else f";{name}={value}")
    return "".join(params.values())


@st.composite
def sip_uris(draw: st.DrawFn, *, headers: bool = True) -> str:
    """A sip or sips URI as text."""
    scheme = draw(st.sampled_from(["sip", "sips", "SIP", "Sips"]))
    user = draw(st.none() | users)
    userinfo = ""
    if user is not None:
        password = draw(st.none() | passwords)
        userinfo = f"{user}@" if password is None else f"{user}:{password}@"
    port = draw(ports)
    text = f"{scheme}:{userinfo}{draw(hosts)}{'' if port is None else f':{port}'}{draw(uri_params())}"
    if headers and draw(st.booleans()):
        parts = draw(st.lists(header_parts, min_size=1, max_size=3))
        text += "?" + "&".join([f"{name}={value}" for name, value in parts])
    return text


tel_uris = st.from_regex(r"\Atel:\+[0-9][0-9.()-]{0,12}(;phone-context=[a-z]{1,5}\.com)?\Z")
other_uris = st.from_regex(r"\A(urn|http|isbn|nobodyKnowsThis):[a-z0-9:/.@-]{1,20}\Z")
uris = sip_uris() | tel_uris | other_uris

quoted_strings = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.just("\t"),
    max_size=10,
).map(quote)
blanks = st.sampled_from(["", "", " ", "  ", "\t"])


@st.composite
def header_params(draw: st.DrawFn, *, without: tuple[str, ...] = ()) -> str:
    """Parameters of a header, with the white space that the grammar allows."""
    values = st.none() | tokens | quoted_strings | hosts
    params: dict[str, str] = {}
    for name, value in draw(st.lists(st.tuples(tokens, values), max_size=3)):
        if name.lower() not in without:
            blank = draw(blanks)
            text = f"{blank};{blank}{name}" if value is None else f"{blank};{name}{blank}={blank}{value}"
            params.setdefault(name.lower(), text)
    return "".join(params.values())


@st.composite
def addresses(draw: st.DrawFn, *, tag: str | None = None) -> str:
    """A name-addr, or an addr-spec when its URI allows one; `tag` is added when given."""
    uri = draw(uris)
    params = draw(header_params(without=("tag",)))
    if tag:
        params += f";tag={tag}"
    if not set(uri) & set(",;?") and draw(st.booleans()):
        return uri + params
    display = draw(st.just("") | quoted_strings | st.lists(tokens, max_size=3).map(" ".join))
    return f"{display}{draw(blanks)}<{uri}>{params}".lstrip(" \t")


@st.composite
def vias(draw: st.DrawFn) -> str:
    """A Via element."""
    transport = draw(st.sampled_from(["UDP", "TCP", "TLS", "WS", "WSS", "SCTP", "udp"]) | tokens)
    port = draw(ports)
    at = draw(hosts) + ("" if port is None else f":{port}")
    branch = draw(st.just("") | st.builds("z9hG4bK{}".format, tokens) | tokens)
    params = f";branch={branch}" if branch else ""
    params += draw(st.sampled_from(["", ";rport", ";rport=5062", ";received=192.0.2.7", ";received=2001:db8::7"]))
    params += draw(header_params(without=("branch", "rport", "received", "maddr", "ttl")))
    return f"SIP/2.0/{transport} {at}{params}"


# No control characters and no surrogates; what stands at the ends is trimmed by the parser.
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20).map(lambda text: text.strip(" \t"))
unknown_names = tokens.filter(lambda name: name.lower() not in NAMES and name not in CANONICAL)
bodies = st.binary(max_size=60)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A valid request on the wire, with headers nobody knows, in any order."""
    method = draw(st.sampled_from(["INVITE", "REGISTER", "OPTIONS", "BYE", "MESSAGE"]) | tokens)
    uri = draw(sip_uris(headers=False) | tel_uris | other_uris)
    return draw(_messages(f"{method} {uri} SIP/2.0", method))


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """A valid response on the wire."""
    phrase = draw(texts)
    return draw(_messages(f"SIP/2.0 {draw(st.integers(100, 699))} {phrase}", draw(tokens)))


messages = requests() | responses()


@st.composite
def _messages(draw: st.DrawFn, start: str, method: str) -> bytes:
    body = draw(bodies)
    lines = [
        f"{draw(st.sampled_from(['From', 'f', 'FROM']))}: {draw(addresses(tag=draw(st.none() | tokens)))}",
        f"{draw(st.sampled_from(['To', 't', 'to']))}:{draw(addresses(tag=draw(st.none() | tokens)))}",
        f"Call-ID: {draw(tokens)}",
        f"CSeq: {draw(numbers)} {method}",
        f"Content-Length: {len(body)}",
    ]
    lines += [f"Via: {via}" for via in draw(st.lists(vias(), min_size=1, max_size=3))]
    lines += [f"{name}: {text}" for name, text in draw(st.lists(st.tuples(unknown_names, texts), max_size=3))]
    head = "\r\n".join([start, *draw(st.permutations(lines)), "", ""])
    return head.encode() + body
