"""What a run in a container tries and must not manage: printed as JSON. It runs in the image, alone."""

import contextlib
import json
import os
import socket
import sys
from functools import partial
from pathlib import Path

inside, addresses, secrets, places = json.loads(sys.argv[1])
managed = {}


def tries(name, attempt):
    try:
        managed[name] = repr(attempt())
    except OSError as error:
        managed[name] = None
        managed.setdefault("errors", []).append(f"{name}: {error}")


def write(path):
    Path(path).write_text("was here")
    return path


written_inside = write(inside)
for host, port in addresses:
    tries(f"reach {host}:{port}", partial(socket.create_connection, (host, port), 3))
for path in secrets:
    tries(f"read {path}", Path(path).read_bytes)
for path in places:
    tries(f"write {path}", partial(write, path))
tries("become root", lambda: os.setuid(0) if os.getuid() else os.setgroups([0, 1]))
tries("give away", lambda: os.chown(inside, 12345, 12345))
for path in ("/var/run/docker.sock", "/run/docker.sock"):
    tries(f"see {path}", Path(path).stat)

facts = dict(
    line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
)
# A kernel with tunnels shows them, down, to every container.
flags = Path("/sys/class/net").glob("*/flags")
interfaces = [one.parent.name for one in flags if int(one.read_text(), 16) & 1]
first = {}
with contextlib.suppress(PermissionError):
    first = dict(
        entry.decode().split("=", 1) for entry in Path("/proc/1/environ").read_bytes().split(b"\0") if entry
    )
sys.stdout.write(
    json.dumps(
        {
            "managed": managed,
            "user": [os.getuid(), os.getgid()],
            "capabilities": [facts["CapEff"], facts["CapPrm"], facts["CapBnd"]],
            "no_new_privileges": facts["NoNewPrivs"],
            "interfaces": interfaces,
            "environment": dict(os.environ),
            "environment_of_the_first": first,
            "written_inside": written_inside,
        }
    )
)
