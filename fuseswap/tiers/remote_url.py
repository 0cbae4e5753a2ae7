"""The address of a remote tier.

    valkey://[USER@]HOST[:PORT][,HOST[:PORT]...][/DATABASE][?OPTION=VALUE&...]

    cluster=yes|no      the hosts are of a cluster
    sentinel=NAME       the hosts are sentinels, which know the server by NAME
    replicas=N          a write is done when so many replicas have it (0)
    tls=yes|no          speak TLS; ca=PATH for a certificate authority of your own
    credentials=PATH    a file of mode 0600 with lines ``user=...`` and ``password=...``
    timeout=SECONDS     of one try of one request (2)

An address has no password: it can be seen in lists of processes and in logs.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from fuseswap.errors import HostError, InvalidArgument
from fuseswap.linux import trusted_file
from fuseswap.sizes import decimal_or_nan
from fuseswap.spelling import is_whole

SCHEMES = ("valkey", "redis")
_PORT = 6379
_TIMEOUT_S = 2.0
_MOST_REPLICAS = 16
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


class Credentials(NamedTuple):
    """Without its password where it is shown."""

    user: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"Credentials({self.user!r})"


class RemoteUrl(NamedTuple):
    """An address, parsed.  ``user`` only where it stands in the address itself."""

    hosts: tuple[tuple[str, int], ...]
    user: str | None = None
    database: int = 0
    cluster: bool = False
    sentinel: str | None = None
    replicas: int = 0
    tls: bool = False
    ca: str | None = None
    credentials: str | None = None
    timeout_s: float = _TIMEOUT_S

    def read_credentials(self) -> Credentials:
        """From the file.  Raises `InvalidArgument` where others may read it."""
        if self.credentials is None:
            return Credentials(self.user, None)
        found = _read(self.credentials, private=True)
        values = dict(line.split("=", 1) for line in found.splitlines() if "=" in line)
        if not values.keys() <= {"user", "password"} or "password" not in values:
            raise InvalidArgument(f"{self.credentials}: wanted are user=NAME and password=WORD")
        return Credentials(self.user or values.get("user"), values["password"])

    def read_ca(self) -> str | None:
        """Certificates, from the file.  Raises `InvalidArgument` where others may change it."""
        if self.ca is None:
            return None
        found = _CERTIFICATE.findall(_read(self.ca, private=False))
        if not found:  # with none at all, those of the system would be trusted
            raise InvalidArgument(f"{self.ca} has no certificate (PEM)")
        return "\n".join(found)


def parse_url(url: str) -> RemoteUrl:
    """Raises `InvalidArgument` in one line."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise InvalidArgument(f"'{_shown(url)}' is not valkey://HOST:PORT")
    user, at, places = parts.netloc.rpartition("@")
    if ":" in user:
        raise InvalidArgument("no password in an address; write it to a file: credentials=PATH")
    if parts.fragment:
        raise InvalidArgument(f"'{_shown(url)}' has a '#'")
    hosts = tuple(_parse_host(place) for place in places.split(","))
    database = parts.path.strip("/") or "0"
    if not is_whole(database):
        raise InvalidArgument(f"'{database}' is no number of a database")
    found = RemoteUrl(hosts, unquote(user) if at else None, int(database))
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        found = _with_option(found, name, value)
    return _checked(found)


def _with_option(found: RemoteUrl, name: str, value: str) -> RemoteUrl:
    match name:
        case "cluster":
            return found._replace(cluster=_yes_or_no(name, value))
        case "tls":
            return found._replace(tls=_yes_or_no(name, value))
        case "sentinel" if value:
            return found._replace(sentinel=value)
        case "replicas":
            if not is_whole(value) or int(value) > _MOST_REPLICAS:
                raise InvalidArgument(f"replicas={value} is not between 0 and {_MOST_REPLICAS}")
            return found._replace(replicas=int(value))
        case "ca":
            return found._replace(ca=_absolute(name, value))
        case "credentials":
            return found._replace(credentials=_absolute(name, value))
        case "timeout":
            return found._replace(timeout_s=_parse_timeout(value))
        case _:
            known = "cluster, sentinel, replicas, tls, ca, credentials, timeout"
            raise InvalidArgument(f"'{name}={value}' is none of {known}")


def _checked(found: RemoteUrl) -> RemoteUrl:
    if found.cluster and found.sentinel:
        raise InvalidArgument("cluster=yes and sentinel=... exclude each other")
    if found.cluster and found.database:
        raise InvalidArgument("a cluster has database 0 only")
    if len(found.hosts) > 1 and not (found.cluster or found.sentinel):
        raise InvalidArgument("several hosts are for cluster=yes or sentinel=NAME")
    if found.ca and not found.tls:
        raise InvalidArgument("ca=... is for tls=yes")
    return found


def _parse_host(place: str) -> tuple[str, int]:
    host, colon, port = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, port = place, str(_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not is_whole(port) or not 0 < int(port) < 1 << 16:
        raise InvalidArgument(f"'{place}' is not HOST:PORT")
    return host, int(port)


def _yes_or_no(name: str, value: str) -> bool:
    if value not in ("yes", "no"):
        raise InvalidArgument(f"{name}={value} is neither yes nor no")
    return value == "yes"


def _absolute(name: str, path: str) -> str:
    if not os.path.isabs(path):
        raise InvalidArgument(f"{name}={path} is not an absolute path")
    return path


def _parse_timeout(value: str) -> float:
    seconds = decimal_or_nan(value)
    if not 0.05 <= seconds <= 60:
        raise InvalidArgument(f"timeout={value} is not between 0.05 and 60 seconds")
    return seconds


def _read(path: str, *, private: bool) -> str:
    try:
        return trusted_file.read_text(path, private=private)
    except HostError as exc:
        raise InvalidArgument(str(exc)) from exc
    except OSError as exc:
        raise InvalidArgument(f"{path}: {exc.strerror}") from exc


def _shown(url: str) -> str:
    """Without what may be a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if "@" in rest else url
