"""Who may ask: requests that the page itself sends, from a browser that was opened with the token.

A page of another site can make a browser send requests to this machine: under a name that it lets point here (DNS
rebinding), or across origins (request forgery). So the host's name is checked, and the origin of each request that
changes something. The token is in the address that the command prints, and then in a cookie of this site alone.
"""

import hashlib
import hmac
import ipaddress
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Refused(Exception):
    """A request that is not answered; its text says why."""


class Access:
    """Args:
    host: Name or address that the server listens on.
    is_network: Other machines may ask.

    Raises:
        ValueError: The address is no loopback address, and nobody said that others may ask.
    """

    def __init__(self, host: str, *, is_network: bool) -> None:
        if not is_loopback(host) and not is_network:
            raise ValueError(
                f"--host {host}: other machines could open the page, over a connection that is not encrypted; say "
                "--network if they are to, or stay on 127.0.0.1 and use `ssh -L 7860:127.0.0.1:7860 THIS_MACHINE`"
            )
        own = {host, socket.gethostname(), socket.getfqdn()} if is_network else {host}
        self.names = LOOPBACK | {name.lower() for name in own}
        self.is_network = is_network
        self.token = secrets.token_urlsafe(24)
        self.cookie = f"reelpack-{hashlib.sha256(self.token.encode()).hexdigest()[:8]}"

    def check_host(self, host: str | None) -> None:
        """Any port: the page may be reached through a tunnel."""
        try:
            name = urlsplit(f"//{host or ''}").hostname or ""
        except ValueError:
            name = ""
        if name.lower() in self.names or (self.is_network and _is_address(name)):
            return
        raise Refused(f"this server has no name {name!r}; open the address that the command printed")

    def check_origin(self, origin: str | None, host: str | None, fetch_site: str | None) -> None:
        """Of a request that changes something."""
        if origin != f"http://{host}" or fetch_site not in (None, "same-origin"):
            raise Refused(f"the request comes from {origin}; expected the server's own page")

    def check_token(self, given: str | None, cookies: str | None) -> None:
        """By the address or by the cookie."""
        try:
            kept = SimpleCookie(cookies or "").get(self.cookie)
        except CookieError:
            kept = None
        for token in (given, None if kept is None else kept.value):
            if token is not None and hmac.compare_digest(token.encode(), self.token.encode()):
                return
        raise Refused("open the address that the command printed when it started: it has a token")

    @property
    def set_cookie(self) -> str:
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
