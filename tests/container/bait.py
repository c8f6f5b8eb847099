"""What a container finds of this machine when its walls have a hole: a file to read, a server to reach."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.images import connect


@dataclass(frozen=True)
class Bait:
    """A file that every user of this machine may read, and a server that listens at all its addresses."""

    secret: Path
    gateway: str
    port: int


def bridge_gateway() -> str:
    """Return this machine's address in the network that a container gets by default."""
    (network,) = connect().api.inspect_network("bridge")["IPAM"]["Config"]
    return str(network.get("Gateway") or next(ipaddress.ip_network(network["Subnet"]).hosts()))


@contextlib.contextmanager
def lay_bait() -> Iterator[Bait]:
    # Not in /tmp, which a container has for itself, so that a secret there would prove nothing.
    with (
        tempfile.TemporaryDirectory(prefix="bait-", dir="/var/tmp") as name,
        socket.create_server(("0.0.0.0", 0)) as server,
    ):
        secret = Path(name) / "secret.txt"
        secret.write_text("of the host")
        secret.parent.chmod(0o755)
        secret.chmod(0o644)
        yield Bait(secret, bridge_gateway(), server.getsockname()[1])
