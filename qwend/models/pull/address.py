"""Which addresses may be asked, at first and after a redirect.

Rule 1: https, and nothing else once a chain has begun with https. Plain http only where it was
asked for: this machine itself, or a mirror that the operator named so. Rule 2: what may carry the
operator's token is one origin, the first.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from qwend.models.pull.failure import Never

# Of the hub to its CDN there are one or two; browsers stop at 20.
MAX_REDIRECTS = 8
_MAX_CHARACTERS = 16 * 1024  # a signed address of a CDN has about 1,200
_PORTS = {"https": 443, "http": 80}
# Already escaped characters stay; what has no place in a request line is escaped.
_SAFE = "/%:@!$&'()*+,;=-._~?"


@dataclass(frozen=True, slots=True)
class Address:
    """target: what stands in the request line."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def url(self) -> str:
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}{self.target}"


def first_address(url: str, *, plain_http: bool = False) -> Address:
    """plain_http: the operator wrote http:// and meant it. Raises: Never."""
    address = _parsed(url)
    if address.scheme == "http" and not (plain_http or is_loopback(address.host)):
        raise Never(f"{_shown(url)}: plain http can be changed on its way; give https://")
    return address


def redirected(first: Address, came_from: Address, location: str) -> Address:
    """Where a redirect leads. Raises: Never if that is nowhere we go."""
    target = _parsed(urljoin(came_from.url, location))
    if target.scheme == "https":
        return target
    allowed = first.scheme == "http" and (is_loopback(target.host) or target.host == first.host)
    if not allowed:
        raise Never(
            f"{came_from.host} redirects to {_shown(target.url)}, and plain http can be changed on "
            "its way"
        )
    return target


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parsed(url: str) -> Address:
    if len(url) > _MAX_CHARACTERS:
        raise Never(f"an address of {len(url)} characters: {_shown(url)}")
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
        port = parts.port or _PORTS.get(scheme, 0)
    except ValueError as error:
        raise Never(f"{_shown(url)} is no address: {error}") from error
    if scheme not in _PORTS:
        raise Never(f"{_shown(url)}: only https:// is fetched")
    if not host or parts.username is not None or not _is_host(host):
        raise Never(f"{_shown(url)} names no host that can be asked")
    return Address(scheme, host, port, _target(parts))


def _target(parts: SplitResult) -> str:
    query = f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
    return (quote(parts.path, safe=_SAFE) or "/") + query


def _is_host(host: str) -> bool:
    return all(character.isalnum() or character in "-._:" for character in host) and host.isascii()


def _shown(url: str) -> str:
    """As a message may have it: short, and without the query, which may be a secret."""
    text = url.split("?", 1)[0][:200]
    return repr(text) if not text.isprintable() else text
