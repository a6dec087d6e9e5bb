"""The settings: one struct a section, a sentence a field.

The text below a field says what it means, why the default is what it is, and what it trades; `docs/configuration.md`
is made from these texts. Units are in the names. Secrets are never settings: they are named by file.
`farm.config` reads and checks them; what imports settings imports them from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from farm.farm_settings import DnsSettings, KeysSettings, OverlaySettings, StoreSettings
from farm.sections import Count, CountOrOff, Seconds, SecondsOrOff, Section
from farm.watch_settings import AccountingSettings, AdminSettings, CaptureSettings, LogSettings

Algorithm = Literal["SHA-256", "SHA-512-256", "MD5"]


class NodeSettings(Section, frozen=True):
    """Which node this is, and where it keeps what must outlive it."""

    name: str
    """Name of this node in logs, metrics and commands; never in a SIP message. Letters, digits, `.`, `_` and `-`."""
    state_dir: str
    """Directory of the journal, the secret and the control socket, for one process at a time. A relative path counts
    from the file's place."""


class SipSettings(Section, frozen=True):
    """The SIP element that the world sees."""

    domains: tuple[str, ...]
    """Domains whose users register here; other domains are foreign: we relay to them for our users only."""
    listen: tuple[str, ...] = ("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060")
    """Listeners as `TRANSPORT:HOST:PORT` with `udp`, `tcp`, `tls`, `ws` or `wss` (WebSocket, for browsers), IPv6 in
    brackets. UDP and TCP on one port is what RFC 3261 §18.2.1 asks for; leave TCP out and requests over 1300 bytes
    cannot come in. A node whose certificate has the role `store` alone speaks no SIP and opens none: leave it out."""
    proxy_listen: tuple[str, ...] = ()
    """Further listeners, all but `udp`, for balancers that speak the PROXY protocol (HAProxy's, version 1 or 2). What
    comes without its header is cut off here, so phones cannot use them."""
    proxy_networks: tuple[str, ...] = ()
    """Networks (`10.0.0.0/8`) of those balancers: their word is who a client is, so name no network with others in
    it."""
    websocket_origins: tuple[str, ...] = ()
    """Origins of pages (`https://phone.example.com`) whose browsers may connect by WebSocket; empty: any, since a phone
    has to log in anyway. It guards users against foreign pages only: what is no browser names any origin, or none."""
    websocket_ping_seconds: SecondsOrOff = 30.0
    """A WebSocket that has been silent this long is pinged, and closed when it is silent as long again. Half of the
    60 s after which web proxies drop a silent connection; browsers cannot ping by themselves. 0 leaves it to the
    phones."""
    farm_name: str = ""
    """Host name for Via and Record-Route, which must resolve to this farm; empty: each listener's own address."""
    advertise: str = ""
    """Address as `HOST` or `HOST:PORT` that peers reach instead of the listener's own, behind a 1:1 NAT; empty: none.
    `farm_name` wins when both are set."""
    role: Literal["proxy", "redirect"] = "proxy"
    """`proxy` forwards requests; `redirect` answers 302 with the bindings and forwards nothing, which is cheaper but
    lets callers see where users are."""
    record_route: bool = True
    """Stay in the path of the dialogs that we set up, so that both sides reach each other through us across NAT and
    transports. Off saves half of the messages of a call and suits open networks only."""
    server_header: str = ""
    """Text of the Server header of our own answers; empty leaves the header out, so that strangers learn no version."""
    trusted_networks: tuple[str, ...] = ()
    """Networks (`10.0.0.0/8`) of peers that are ours: not challenged, may relay to any domain, may assert identities.
    Empty by default: an address is weak proof over UDP."""
    shared_address: bool = False
    """Several nodes have one address (anycast, VRRP, ECMP), so that what belongs to one request may reach any of them.
    True has a request over UDP served by the node that its branch picks, through whichever it came: a repeated one is
    answered and not forked twice, and a CANCEL finds its INVITE. It costs one relay more for most requests."""
    udp_request_bytes: Annotated[int, msgspec.Meta(ge=200, le=65_535)] = 1300
    """A request above this size goes by TCP first (RFC 3261 §18.1.1). 1300 is the RFC's figure for an unknown path;
    raise it where the path is known to carry more."""
    t1_seconds: Seconds = 0.5
    """Estimate of the round trip (RFC 3261 §17.1.1.1); retransmission starts here. The RFC allows more, not less, on
    the open Internet."""
    t2_seconds: Seconds = 4.0
    """Longest interval between retransmissions of what is not an INVITE, and of answers to an INVITE."""
    t4_seconds: Seconds = 5.0
    """Longest time that a message stays in the network; finished transactions linger this long over UDP."""


class TlsSettings(Section, frozen=True):
    """SIP over TLS (RFC 3261 §26.3, RFC 5922): who we prove to be, and what others must prove."""

    certificates: tuple[str, ...] = ()
    """Certificate files in PEM, each with its chain, that `tls:` and `wss:` listeners show; the one that a client asks
    for by name (SNI) is taken, else the first. They should name `sip.farm_name` and the domains, as `URI:sip:` for
    proxies and as DNS names for phones. Renewed files are noticed within a minute, or at SIGHUP."""
    keys: tuple[str, ...] = ()
    """Files of their private keys in PEM, in the same order; empty: each key is in its certificate's file. Others must
    not be able to read them."""
    trust: str = ""
    """File of the authorities in PEM that the certificates of others must come from; empty: those that the system
    trusts."""
    client_certificates: Literal["off", "request", "require"] = "off"
    """Whether who connects is asked for a certificate: `request` lets in also those who have none that can be trusted,
    phones say, as nobody in particular; `require` refuses them. What is proved lets requests to that domain use the
    connection (RFC 5923)."""
    trusted_domains: tuple[str, ...] = ()
    """Domains of peers that are treated as those of `sip.trusted_networks` when their certificate proves them. Better
    than an address, but the authority in `trust` must be one that does not certify just anybody."""
    handshake_seconds: Seconds = 10.0
    """A handshake must be done within this; who stops in the middle is cut off. A phone on a bad network needs a few
    round trips, and a full one costs us the connection's place."""


class AuthSettings(Section, frozen=True):
    """Who must prove who they are, and how (RFC 3261 §22, RFC 8760)."""

    open: bool = False
    """True lets anybody register as anybody and call as anybody: for laboratories and benchmarks only."""
    algorithms: tuple[Algorithm, ...] = ("SHA-256", "MD5")
    """Digest algorithms in the order they are offered. MD5 comes last because most phones know nothing else; take it
    out where none needs it. Some phones fail unless it is first."""
    nonce_life_seconds: Seconds = 300.0
    """How long a nonce is good; afterwards the client is told `stale=true` and asks no human. Shorter costs one more
    round trip more often, longer keeps more nonce counts in memory."""
    nonce_entries: Count = 200_000
    """How many nonces' counts are kept to refuse replays; when full the oldest are forgotten and answered as stale."""
    nonce_key_file: str = ""
    """File of the key that nonces are made with (32 bytes or more), the same on all nodes that share users; empty: the
    keys of `[keys]`, which all nodes have and which rotate."""
    allow_without_qop: bool = True
    """Accept the digest of RFC 2069 clients, which send no qop and no nonce count. They still work at the price of no
    replay protection within a nonce's life."""


class RegistrarSettings(Section, frozen=True):
    """Registrations (RFC 3261 §10) and their limits."""

    min_expires_seconds: Count = 60
    """Shorter requests are refused with 423 and this figure: it bounds how often a phone may load the registrar."""
    max_expires_seconds: Count = 7200
    """Longer requests are granted this: it bounds how long a vanished phone is called in vain."""
    default_expires_seconds: Count = 3600
    """Granted when the phone asks for nothing; the RFC's own example."""
    max_bindings: Count = 16
    """Contacts of one address-of-record; more are refused whole (403), because each multiplies the calls we fork."""
    contact_bytes: Count = 4096
    """Longest Contact value that is kept, so that a stranger cannot grow a record."""
    flow_timer_seconds: CountOrOff = 120
    """How often a phone that registers a connection by outbound is asked to show that it is there (RFC 5626 §6); less
    than `limits.idle_seconds`. 0 says nothing, and the phone takes 95 to 120 seconds. Shorter finds dead connections
    sooner and costs their batteries. Over UDP nothing is ever said: phones then send each 24 to 29 s, as NATs want it.
    """
    service_route: tuple[str, ...] = ()
    """URIs for the Service-Route header of the 200 (RFC 3608): the way back through us for a phone's own requests."""


class ProxySettings(Section, frozen=True):
    """How requests are forwarded (RFC 3261 §16)."""

    timer_c_seconds: Annotated[float, msgspec.Meta(gt=180)] = 185.0
    """How long an INVITE may ring without news before it is cancelled (§16.6 step 11 wants more than 180)."""
    max_forks: Count = 16
    """Targets of one request that are tried at most; as many as a user may have bindings."""
    max_breadth: Count = 60
    """Max-Breadth of a request that brings none (RFC 5393 §5.3): the sum of parallel branches below us."""
    serial_seconds: Seconds = 20.0
    """How long targets of one q ring before those of the next lower q are tried."""
    max_forwards: Annotated[int, msgspec.Meta(ge=1, le=255)] = 70
    """Max-Forwards added to a request that has none (§16.6 step 3)."""


class LimitSettings(Section, frozen=True):
    """Limits on everything that a stranger can grow."""

    header_bytes: Count = 32_768
    """Longest header section; longer is answered 513."""
    header_count: Count = 200
    """Most header lines; more are answered 400."""
    uri_bytes: Count = 2048
    """Longest URI; longer is answered 414."""
    via_depth: Count = 70
    """Most Via values, as Max-Forwards starts at 70."""
    body_bytes: Count = 65_535
    """Longest body; longer is answered 413. A stream could carry more than a datagram: raise it if yours do."""
    receive_buffer_bytes: Count = 4_194_304
    """Socket buffer asked of the kernel for each UDP listener: it holds the burst while the process is busy."""
    connections: Count = 10_000
    """Open stream connections; further ones are closed at once. A start warns when the process may not open that
    many files."""
    connections_per_source: Count = 200
    """Open stream connections from one address; offices behind one NAT need tens."""
    idle_seconds: Seconds = 900.0
    """A connection without traffic is closed after this; above the keep-alive interval of phones (RFC 5626: 120 s)."""
    first_message_seconds: Seconds = 30.0
    """A new connection must bring its first whole message within this, so that silent ones do not fill the table."""
    message_seconds: Seconds = 10.0
    """A message begun on a stream must be whole within this: slow senders are cut off."""
    proxy_header_seconds: Seconds = 5.0
    """A balancer's PROXY header must be whole within this. It is the first packet of its connection, so three seconds
    allow for one that is lost, as HAProxy advises, and two are for good measure."""
    connect_seconds: Seconds = 8.0
    """How long we try to connect before the next target is taken; well below timer B's 32 s."""
    drain_close_seconds: Annotated[float, msgspec.Meta(ge=0, le=30)] = 10.0
    """A node that is drained or stopped closes the connections of phones at random moments within this, so that they do
    not all register with the other nodes at once. Those on which something waits for an answer come last; fewer than
    50 a second are not slowed down further. 0 closes all at once."""
    write_buffer_bytes: Count = 1_048_576
    """Bytes that wait for a peer that does not read; beyond, its connection is closed."""
    transactions: Count = 200_000
    """Server transactions alive; beyond, new requests get 503 with Retry-After. Some 2 KB each."""
    requests_per_second: SecondsOrOff = 0.0
    """Requests one address may send each second; 0 sets no limit, since a trunk sends thousands."""
    burst: Count = 100
    """Requests one address may send at once above its rate."""
    failures_per_minute: CountOrOff = 300
    """Failed authentications from one address within a minute before it is banned; 0 bans nobody. High enough for an
    office whose phones all hold an old password."""
    ban_seconds: Seconds = 600.0
    """How long credentials from a banned address are refused unread; requests without any, those of running calls
    among them, still pass."""
    exempt_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that rate limits and bans leave alone: our own machine, our own trunks."""
    table_entries: Count = 100_000
    """Addresses that rates and bans remember; when full the oldest are forgotten, so that a flood costs no memory."""


class ResolverSettings(Section, frozen=True):
    """Locating servers by DNS (RFC 3263)."""

    servers: tuple[str, ...] = ()
    """Name servers as `HOST` or `HOST:PORT`; empty: those of `/etc/resolv.conf`."""
    timeout_seconds: Seconds = 5.0
    """How long one question may take with all its repeats, while a caller waits."""
    cache_entries: Count = 10_000
    """Answers kept, also negative ones."""
    max_ttl_seconds: Seconds = 3600.0
    """Longest time that an answer is kept whatever its TTL, so that a mistake in DNS heals."""
    negative_seconds: Seconds = 30.0
    """How long "no such record" is believed."""
    failed_seconds: SecondsOrOff = 30.0
    """How long a server that failed is tried last (RFC 3263 §4.3 leaves the time open); 0 forgets at once."""


class RouteSettings(Section, frozen=True):
    """A static route: a foreign domain and where its requests go instead of where DNS says."""

    domain: str
    """Domain of the Request-URI that takes this route."""
    to: tuple[str, ...]
    """SIP URIs in the order of preference; the next is tried on 503, timeout and refusal."""
    probe_seconds: SecondsOrOff = 0.0
    """Interval of OPTIONS probes; 0 sends none. A target that does not answer is skipped until it does."""


class GatewaySettings(Section, frozen=True):
    """A gateway for telephone numbers: `tel:` URIs and `sip:+…;user=phone` of our domains."""

    prefix: str
    """First digits of the numbers, `+49` say; the longest prefix that fits wins, empty fits all."""
    to: tuple[str, ...]
    """SIP URIs in the order of preference; the next is tried on 503, timeout and refusal."""
    probe_seconds: SecondsOrOff = 30.0
    """Interval of OPTIONS probes; 0 sends none. A gateway that does not answer is skipped until it does."""


class Config(Section, frozen=True):
    """A whole, checked configuration."""

    node: NodeSettings
    sip: SipSettings
    tls: TlsSettings = TlsSettings()
    auth: AuthSettings = AuthSettings()
    keys: KeysSettings = KeysSettings()
    registrar: RegistrarSettings = RegistrarSettings()
    proxy: ProxySettings = ProxySettings()
    limits: LimitSettings = LimitSettings()
    resolver: ResolverSettings = ResolverSettings()
    overlay: OverlaySettings = OverlaySettings()
    dns: DnsSettings = DnsSettings()
    store: StoreSettings = StoreSettings()
    admin: AdminSettings = AdminSettings()
    accounting: AccountingSettings = AccountingSettings()
    capture: CaptureSettings = CaptureSettings()
    log: LogSettings = LogSettings()
    routes: tuple[RouteSettings, ...] = ()
    gateways: tuple[GatewaySettings, ...] = ()

    @property
    def control_path(self) -> str:
        """Where the control socket is."""
        return self.admin.control or os.path.join(self.node.state_dir, "control.sock")


SECTIONS: Final[Mapping[str, type[Section]]] = {
    "node": NodeSettings,
    "sip": SipSettings,
    "tls": TlsSettings,
    "auth": AuthSettings,
    "keys": KeysSettings,
    "registrar": RegistrarSettings,
    "proxy": ProxySettings,
    "limits": LimitSettings,
    "resolver": ResolverSettings,
    "overlay": OverlaySettings,
    "dns": DnsSettings,
    "store": StoreSettings,
    "admin": AdminSettings,
    "accounting": AccountingSettings,
    "capture": CaptureSettings,
    "log": LogSettings,
    "routes": RouteSettings,
    "gateways": GatewaySettings,
}
REPEATED: Final = frozenset(("routes", "gateways"))
