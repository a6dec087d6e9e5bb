"""SIP, SIPS and tel URIs and the rules that make two equal (RFC 3261 §19.1, RFC 3966; IPv6 by RFC 5118, 5954).

A URI keeps the text it came as and writes that. Hosts are compared and looked up as `host`: lower-case, without the
final dot, IPv6 in its canonical spelling. Schemes that are not ours parse as `opaque` text, so that who asks can answer
416.

Decided: a label may begin with a digit (RFC 1123 §2.1; container names do), but a host whose last label is all digits
must be an IPv4 address, and one without leading zeros, since systems disagree on what those mean.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final

from farm.sip.grammar import HOST
from farm.sip.status import SipError

_ESCAPED: Final = "%[0-9A-Fa-f]{2}"
_PARAM_CHARS: Final = rf"(?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$]++|{_ESCAPED})+"
_HEADER_CHARS: Final = rf"(?:[A-Za-z0-9\-_.!~*'()\[\]/?:+$]++|{_ESCAPED})+"

_SIP: Final = re.compile(
    r"([sS][iI][pP][sS]?+):"
    rf"(?:((?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]++|{_ESCAPED})+)(?::((?:[A-Za-z0-9\-_.!~*'()&=+$,]++|{_ESCAPED})*))?@)?"
    rf"({HOST})(?::([0-9]{{1,10}}))?"
    rf"((?:;{_PARAM_CHARS}(?:={_PARAM_CHARS})?)*)"
    rf"(?:\?({_HEADER_CHARS}=(?:{_HEADER_CHARS})?(?:&{_HEADER_CHARS}=(?:{_HEADER_CHARS})?)*))?"
)
_ABSOLUTE: Final = re.compile(rf"([A-Za-z][A-Za-z0-9+.\-]*+):((?:[A-Za-z0-9\-_.!~*'();/?:@&=+$,\[\]]++|{_ESCAPED})+)")
_TEL: Final = re.compile(
    rf"((?:\+[\-.()]*+[0-9][0-9\-.()]*+|[0-9A-Fa-f*#\-.()]++))((?:;{_PARAM_CHARS}(?:={_PARAM_CHARS})?)*)"
)
_IPV4: Final = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
_HEX: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_SEPARATORS: Final = re.compile(r"[\-.()]")

_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()")
_USER: Final = _UNRESERVED | frozenset("&=+$,;?/")
# Parameters with a default or a target of their own: one that only one URI has makes the two differ (§19.1.4).
_TELLING: Final = ("user", "ttl", "method", "maddr", "transport")


class Uri:
    """A parsed URI, never changed once made.

    `user` and `password` are as written (escapes kept), `port` is None when not written, `params` have lower-case
    names, `headers` is what follows "?". For schemes other than sip and sips `opaque` is all that follows the scheme,
    and for tel `user` is the number as written.
    """

    __slots__ = ("headers", "host", "opaque", "params", "password", "port", "scheme", "text", "user")

    def __init__(
        self,
        scheme: str,
        user: str | None,
        host: str,
        port: int | None = None,
        params: dict[str, str | None] | None = None,
        headers: str = "",
        password: str | None = None,
        opaque: str = "",
        text: str = "",
    ) -> None:
        self.scheme = scheme
        self.user = user
        self.host = host
        self.port = port
        self.params: dict[str, str | None] = {} if params is None else params
        self.headers = headers
        self.password = password
        self.opaque = opaque
        self.text = text or self._write()

    def _write(self) -> str:
        if self.opaque:
            return f"{self.scheme}:{self.opaque}"
        user = ""
        if self.user is not None:
            user = f"{self.user}@" if self.password is None else f"{self.user}:{self.password}@"
        port = "" if self.port is None else f":{self.port}"
        params = "".join([f";{name}" if value is None else f";{name}={value}" for name, value in self.params.items()])
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{self.host_text}{port}{params}{headers}"

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Uri {self.text}>"

    @property
    def is_sip(self) -> bool:
        """Whether it is a sip or sips URI."""
        return self.scheme == "sip" or self.scheme == "sips"

    @property
    def host_text(self) -> str:
        """The host as it stands in a message: IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def transport(self) -> str:
        """The transport parameter in upper case, "" when there is none."""
        return (self.params.get("transport") or "").upper()

    @property
    def lr(self) -> bool:
        """Whether this names a loose router (§16.12); "lr=on" counts, as some write it."""
        return "lr" in self.params

    @property
    def maddr(self) -> str:
        """The maddr parameter, "" when there is none; IPv6 without brackets."""
        return (self.params.get("maddr") or "").strip("[]").lower()

    def with_params(self, params: dict[str, str | None]) -> Uri:
        """The same URI with these parameters instead of its own."""
        return Uri(self.scheme, self.user, self.host, self.port, params, self.headers, self.password, self.opaque)

    def without_headers(self) -> Uri:
        """The same URI without its header part."""
        if not self.headers:
            return self
        return Uri(self.scheme, self.user, self.host, self.port, self.params, "", self.password)


def _bad(reason: str) -> SipError:
    return SipError(400, "Bad URI", reason=reason)


def parse_host(text: str) -> str:
    """A host as written, as it is compared: lower-case, no final dot, IPv6 canonical and without brackets.

    `text` has the form of grammar.HOST already; raises SipError 400 for a number that is no address. Three colons in an
    IPv6 address count as two (RFC 5118 §4.8 explains where they come from).
    """
    last = text[-1]
    if last == "]":
        try:
            return str(IPv6Address(text[1:-1].replace(":::", "::")))
        except ValueError:
            raise _bad("bad-ipv6-address") from None
    if last == ".":
        text = text[:-1]
        last = text[-1]
    if last in "0123456789" and text[text.rfind(".") + 1 :].isdigit() and _IPV4.fullmatch(text) is None:
        raise _bad("bad-ipv4-address")
    return text.lower()


def parse_uri(text: str) -> Uri:
    """The URI that is all of `text`; raises SipError 400."""
    match = _SIP.fullmatch(text)
    if match is None:
        return _parse_other(text)
    scheme, user, password, host, port_text, params_text, headers = match.groups()
    port = None
    if port_text is not None:
        port = int(port_text)
        if not 0 < port < 65536:
            raise _bad("bad-port")
    params: dict[str, str | None] = {}
    if params_text:
        params = _parse_params(params_text)
    if host[-1] in "0123456789.]":
        host = parse_host(host)
    elif not host.islower():
        host = host.lower()
    if scheme != "sip":
        scheme = scheme.lower()
    return Uri(scheme, user, host, port, params, headers or "", password, "", text)


def _parse_params(text: str) -> dict[str, str | None]:
    params: dict[str, str | None] = {}
    parts = text.split(";")
    del parts[0]
    for part in parts:
        name, equals, value = part.partition("=")
        params[name.lower()] = value if equals else None
    if len(params) != len(parts):
        raise _bad("repeated-parameter")
    return params


def _parse_other(text: str) -> Uri:
    if text[:4].lower() == "tel:":
        opaque = text[4:]
        match = _TEL.fullmatch(opaque)
        if match is None:
            raise _bad("bad-tel-uri")
        return Uri("tel", match[1], "", None, _parse_params(match[2]) if match[2] else None, "", None, opaque, text)
    match = _ABSOLUTE.fullmatch(text)
    if match is None:
        raise _bad("bad-uri")
    scheme, opaque = match[1].lower(), match[2]
    if scheme == "sip" or scheme == "sips":
        raise _bad("bad-uri")
    return Uri(scheme, None, "", None, None, "", None, opaque, text)


def _unescape(text: str, plain: frozenset[str]) -> str:
    """Escapes of the characters in `plain` resolved, all others in upper case."""
    if "%" not in text:
        return text

    def resolve(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in plain else match[0].upper()

    return _HEX.sub(resolve, text)


def aor_of(uri: Uri) -> str:
    """The canonical address-of-record (§10.3 step 5): "sip:user@domain" without port, parameters and password.

    sips counts as sip; a tel number loses its visual separators and keeps its phone-context.
    """
    if uri.scheme == "sip" or uri.scheme == "sips":
        user = uri.user
        if user is None:
            return f"sip:{uri.host_text}"
        if "%" in user:
            user = _unescape(user, _USER)
        return f"sip:{user}@{uri.host_text}"
    if uri.scheme == "tel":
        number = _SEPARATORS.sub("", uri.user or "").lower()
        context = uri.params.get("phone-context")
        return f"tel:{number};phone-context={context.lower()}" if context else f"tel:{number}"
    return f"{uri.scheme}:{uri.opaque}"


def _header_parts(text: str) -> list[str]:
    """URI headers in an order of their own, names lower."""
    parts: list[str] = []
    for part in text.split("&"):
        name, _, value = part.partition("=")
        parts.append(f"{_unescape(name, _UNRESERVED).lower()}={_unescape(value, _UNRESERVED)}")
    parts.sort()
    return parts


def _plain_params(uri: Uri) -> dict[str, str | None]:
    plain: dict[str, str | None] = {}
    for name, value in uri.params.items():
        plain[_unescape(name, _UNRESERVED).lower()] = None if value is None else _unescape(value, _UNRESERVED).lower()
    return plain


def uri_key(uri: Uri) -> str:
    """A text that two URIs share only if they are equal by §19.1.4.

    The converse does not hold: equality ignores unknown parameters that only one side has, and no key can.
    """
    parts = [uri.scheme, ":"]
    if uri.scheme == "tel":
        parts.append(_SEPARATORS.sub("", uri.user or "").lower())
    elif not uri.is_sip:
        return f"{uri.scheme}:{uri.opaque}"
    elif uri.user is not None:
        parts.append(_unescape(uri.user, _UNRESERVED))
        if uri.password is not None:
            parts += (":", _unescape(uri.password, _UNRESERVED))
        parts.append("@")
    if uri.host:
        parts.append(uri.host_text)
    if uri.port is not None:
        parts.append(f":{uri.port}")
    if uri.params:
        for name, value in sorted(_plain_params(uri).items()):
            parts.append(f";{name}" if value is None else f";{name}={value}")
    if uri.headers:
        parts += ("?", "&".join(_header_parts(uri.headers)))
    return "".join(parts)


def uris_equal(one: Uri, other: Uri) -> bool:
    """Whether two URIs are equal by §19.1.4; other schemes compare as their key."""
    if not (one.is_sip and other.is_sip):
        return uri_key(one) == uri_key(other)
    if one.scheme != other.scheme or one.host != other.host or one.port != other.port:
        return False
    if _unescape_or_none(one.user) != _unescape_or_none(other.user):
        return False
    if _unescape_or_none(one.password) != _unescape_or_none(other.password):
        return False
    if one.params or other.params:
        left, right = _plain_params(one), _plain_params(other)
        for name in _TELLING:
            if (name in left) != (name in right):
                return False
        for name, value in left.items():
            if name in right and right[name] != value:
                return False
    if one.headers or other.headers:
        return _header_parts(one.headers) == _header_parts(other.headers)
    return True


def _unescape_or_none(text: str | None) -> str | None:
    return None if text is None else _unescape(text, _UNRESERVED)
