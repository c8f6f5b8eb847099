"""Where what a run is given comes from: files, descriptions, and what other runs have made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.strict_json import Strict
from ptycho_torch.headers import ScanHeader
from ptycho_torch.simulate_config import SimulateConfig

__all__ = [
    "CheckpointSource",
    "FileSource",
    "ImageSource",
    "ProbeSource",
    "SimulatedSource",
    "Source",
    "probe_role",
]


@dataclass(frozen=True)
class FileSource(Strict):
    """A scan that is read from a file.

    Parameters
    ----------
    name
        The file's name without its folder.
    sha256, size
        Digest and number of bytes of the file as it was found.
    positions, units
        How it is read, as in ``DataConfig``.
    header
        What its header says.
    url
        Where it can be fetched from; None when nobody said.
    """

    name: str
    sha256: str
    size: int
    positions: str
    units: str
    header: ScanHeader
    url: str | None = None
    kind: Literal["file"] = "file"


@dataclass(frozen=True)
class SimulatedSource(Strict):
    """A scan that is simulated from its description.

    Parameters
    ----------
    simulate
        The description.
    """

    simulate: SimulateConfig
    name: Literal["simulated"] = "simulated"
    sha256: None = None
    size: None = None
    kind: Literal["simulated"] = "simulated"


@dataclass(frozen=True)
class CheckpointSource(Strict):
    """A network that another run has trained.

    Parameters
    ----------
    name
        The file's path below the run's folder.
    run
        That folder's name.
    sha256, size
        Digest and number of bytes of the file.
    tensor_digest
        Digest of the weights in it.
    has_collapsed
        Whether that run collapsed.
    """

    name: str
    run: str
    sha256: str
    size: int
    tensor_digest: str
    has_collapsed: bool = False
    kind: Literal["checkpoint"] = "checkpoint"


@dataclass(frozen=True)
class ImageSource(Strict):
    """The network's image of another run.

    Parameters
    ----------
    name
        The file's name without its folder.
    sha256, size
        Its digest and number of bytes.
    run, manifest
        Name of the run's folder, and its manifest's own digest.
    has_collapsed
        Whether that run's network collapsed.
    """

    name: str
    sha256: str
    size: int
    run: str
    manifest: str
    has_collapsed: bool = False
    kind: Literal["image"] = "image"


@dataclass(frozen=True)
class ProbeSource(Strict):
    """The file that holds the probe of a simulated scan; its role is the scan's, with ``_probe``.

    Parameters
    ----------
    name
        The file's name without its folder.
    sha256, size
        Its digest and number of bytes.
    """

    name: str
    sha256: str
    size: int
    kind: Literal["probe"] = "probe"


Source: TypeAlias = FileSource | SimulatedSource | CheckpointSource | ImageSource | ProbeSource


def probe_role(role: str) -> str:
    """Return the role of the file that holds the probe of a simulated scan."""
    return f"{role}_probe"
