"""One HTTP request, with an end: redirects followed by our rules, no reading without a deadline.

Rule 1: a peer that says nothing, or next to nothing, is noticed (`line`). Rule 2: the body comes as
it is on the wire, never unpacked, or neither its length nor a range would mean anything. Rule 3:
this file does not know what is fetched.

http.client of the standard library does HTTP; a larger one would have its retries, redirects and
unpacking switched off here, for what it costs on a small machine.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from qwend.models.pull.address import MAX_REDIRECTS, Address, first_address, redirected
from qwend.models.pull.failure import Again, Never
from qwend.models.pull.line import Line

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BLOCK_BYTES = 256 * 1024
# A server that is busy says when to come back; longer than this is for the person to decide.
MAX_WAIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Patience:
    """connect_s: also for TLS. head_s: until the headers are there. silence_s: a body that brings
    less than `least_bytes` in it has stalled; a modem brings more.
    """

    connect_s: float = 10.0
    head_s: float = 20.0
    silence_s: float = 12.0
    least_bytes: int = 16 * 1024


@dataclass(frozen=True, slots=True)
class Web:
    """environ: for https_proxy, http_proxy and no_proxy. agent: what we call ourselves."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    patience: Patience = field(default_factory=Patience)
    agent: str = "qwend"
    clock: Callable[[], float] = time.monotonic

    def ask(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        secret: Mapping[str, str] | None = None,
        plain_http: bool = False,
        stay: bool = False,
    ) -> Answer:
        """The answer behind all redirects, or with `stay` the first that leads to another host.

        secret: headers for the first origin alone. Raises: Again, Never.
        """
        first = address = first_address(url, plain_http=plain_http)
        for _ in range(MAX_REDIRECTS + 1):
            told = {"User-Agent": self.agent, "Accept-Encoding": "identity", **(headers or {})}
            if address.origin == first.origin:
                told |= secret or {}
            answer = self._one(address, method, told)
            location = answer.header("Location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            with ExitStack() as unless_here:
                unless_here.enter_context(answer)
                following = redirected(first, address, location)
                if stay and following.host != first.host:
                    unless_here.pop_all()
                    return answer
            address = following
        raise Never(f"{first.host} redirects more than {MAX_REDIRECTS} times")

    def _one(self, address: Address, method: str, headers: Mapping[str, str]) -> Answer:
        connection = self._connection(address)
        with ExitStack() as unless_answered:
            try:
                unless_answered.callback(connection.close)
                connection.connect()
                line = Line(connection.sock, self.clock)
                unless_answered.callback(line.shut)
                connection.sock = line
                line.expect_head(self.patience.head_s)
                target = address.url if isinstance(connection, _Absolute) else address.target
                connection.request(method, target, headers=dict(headers))
                answer = Answer(connection.getresponse(), line, address, self)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _translated(error, address.host, "did not answer") from error
            unless_answered.pop_all()
        return answer

    def _connection(self, address: Address) -> http.client.HTTPConnection:
        timeout_s = self.patience.connect_s
        proxy = self._proxy(address)
        if proxy is None:
            if address.scheme == "http":
                return http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
            return http.client.HTTPSConnection(
                address.host, address.port, timeout=timeout_s, context=_tls()
            )
        host, port = proxy
        if address.scheme == "http":
            return _Absolute(host, port, timeout=timeout_s)
        tunnel = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=_tls())
        tunnel.set_tunnel(address.host, address.port)
        return tunnel

    def _proxy(self, address: Address) -> tuple[str, int] | None:
        name = f"{address.scheme}_proxy"
        # HTTP_PROXY in capitals is a header of a request in CGI, and not to be trusted (httpoxy).
        other = "" if name == "http_proxy" else self.environ.get(name.upper(), "")
        given = self.environ.get(name) or other
        without = self.environ.get("no_proxy") or self.environ.get("NO_PROXY") or ""
        if not given or _is_without_proxy(address.host, without):
            return None
        parts = urlsplit(given if "://" in given else f"http://{given}")
        if parts.scheme != "http" or not parts.hostname:
            raise Never(f"the proxy {name}={given!r} cannot be used: only http://HOST:PORT can")
        return parts.hostname, parts.port or 80


class _Absolute(http.client.HTTPConnection):
    """Plain http through a proxy: the request line has the whole address (RFC 9112, 3.2.2)."""


class Answer:
    """status, url and headers of one answer, and its body as it comes. Close it."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        line: Line,
        address: Address,
        web: Web,
    ) -> None:
        self._response, self._line, self._web = response, line, web
        self.status = response.status
        self.address = address
        line.expect_body(web.patience.silence_s, web.patience.least_bytes)

    def header(self, name: str) -> str:
        return self._response.getheader(name) or ""

    def read(self) -> bytes:
        """What has come, at least a byte; empty at the end, the early one too. Raises: Again."""
        patience = self._web.patience
        try:
            return self._response.read1(_BLOCK_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            after = (
                f"went silent: less than {patience.least_bytes} bytes in {patience.silence_s:g} s"
            )
            raise _translated(error, self.address.host, after) from error

    def read_text(self, limit_bytes: int) -> bytes:
        """All of a small body. Raises: Again, also if it is not small."""
        data = b""
        while block := self.read():
            data += block
            if len(data) > limit_bytes:
                raise Again(f"{self.address.host} answers with more than {limit_bytes} bytes")
        return data

    def close(self) -> None:
        self._response.close()
        self._line.shut()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *exit: object) -> None:
        self.close()


def wait_asked_for(answer: Answer) -> float | None:
    """Retry-After in seconds; None if there is none that we follow."""
    value = answer.header("Retry-After")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def _is_without_proxy(host: str, without: str) -> bool:
    """without: as curl reads no_proxy: `*`, or hosts and domains with commas between them."""
    names = [name.strip().lower().lstrip(".") for name in without.split(",")]
    return "*" in names or any(
        name and (host == name or host.endswith(f".{name}")) for name in names
    )


def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _translated(error: Exception, host: str, when_silent: str) -> Again | Never:
    """What http.client, ssl and the system raise, as what may be tried again and what may not."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Never(
            f"{host} does not prove who it is: {error.verify_message}. Is this machine's clock "
            "right, and does it know the authority (SSL_CERT_FILE)?"
        )
    if isinstance(error, TimeoutError):
        return Again(f"{host} {when_silent}")
    if isinstance(error, socket.gaierror):
        return Again(f"the name {host} cannot be looked up: {error.strerror}")
    if isinstance(error, http.client.InvalidURL):
        return Never(f"{host}: {error}")
    if isinstance(error, OSError):
        return Again(f"{host}: {error.strerror or error}")
    return Again(f"{host} does not speak HTTP: {type(error).__name__}")
