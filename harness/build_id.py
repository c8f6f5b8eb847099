"""The build id of an image: one digest over everything that it is made from, which code inside can read.

An image is built from a checkout. Both can compute the build id, so an image that is older than the
checkout is noticed wherever it is used; ``python -m harness.build_id check CHECKOUT`` is how the entrypoint
of the image does it. Standard library only: this module also runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = [
    "IMAGE_ROOT",
    "RECORD",
    "TARGETS",
    "BuildRecord",
    "build_id",
    "ingredients",
    "parse_record",
    "read_build_record",
    "stale",
]

IMAGE_ROOT = Path("/opt/ptychopinn")
"""Where everything of ours is in an image: ``venv``, ``src`` and the record."""

RECORD = IMAGE_ROOT / "build.json"

TARGETS: Mapping[str, str] = {"cpu": "cpu", "cuda": "cuda", "test": "dev"}
"""Targets of the Dockerfile, and the lock that each is made from."""

_SERVICES = {"cpu": "train", "cuda": "train-cuda", "test": "test"}
"""A service of docker-compose.yml that has the image of a target."""

_HOLDS_SOURCES = {"cpu", "cuda"}
"""The image of the tests holds only their environment; it tests the checkout that is mounted."""

_RECIPE = ("Dockerfile", "docker/entrypoint.sh", "tools/install.sh", "pyproject.toml")
_PACKAGES = ("harness", "ptycho_torch")
_BAD_INPUT = 2
_MOST_NAMED = 3


@dataclass(frozen=True)
class BuildRecord:
    """What an image was made from.

    Parameters
    ----------
    build_id
        The digest of `files` and `target`.
    target
        Target of the Dockerfile.
    files
        Path in the checkout, and sha256; that of a program is followed by ``x``.
    """

    build_id: str
    target: str
    files: Mapping[str, str]


def ingredients(root: Path, target: str) -> dict[str, str]:
    """Map every file that an image of `target` is made from to its sha256, that of a program with an ``x``.

    Raises
    ------
    ValueError
        There is no such target.
    OSError
        A file of the recipe is not there or cannot be read.
    """
    if target not in TARGETS:
        raise ValueError(f"there is no target {target!r}: write one of {', '.join(TARGETS)}")
    lock = f"docker/requirements-{TARGETS[target]}.lock"
    recipe = [root / name for name in (*_RECIPE, lock)]
    packages = _PACKAGES if target in _HOLDS_SOURCES else ()
    sources = [path for package in packages for path in _walk(root / package)]
    return {path.relative_to(root).as_posix(): _digest(path) for path in sorted([*recipe, *sources])}


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__pycache__" or path.suffix in {".pyc", ".egg-info"}:
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _digest(path: Path) -> str:
    mark = " x" if path.stat().st_mode & 0o100 else ""
    return hashlib.sha256(path.read_bytes()).hexdigest() + mark


def _record(root: Path, target: str) -> BuildRecord:
    files = ingredients(root, target)
    lines = "".join(f"{name}\0{digest}\n" for name, digest in files.items())
    digest = hashlib.sha256(f"{target}\n{lines}".encode()).hexdigest()
    return BuildRecord(digest, target, files)


def build_id(root: Path, target: str) -> str:
    """Digest everything that an image of `target` is made from in the checkout `root`.

    Raises
    ------
    ValueError
        There is no such target.
    OSError
        A file of the recipe is not there or cannot be read.
    """
    return _record(root, target).build_id


def parse_record(text: str | bytes) -> BuildRecord:
    """Read the text of a record."""
    return BuildRecord(**json.loads(text))


def read_build_record() -> BuildRecord | None:
    """Return the record of the image that this code is in; None outside an image, and where it holds none."""
    is_inside = Path(__file__).resolve().is_relative_to(IMAGE_ROOT / "src")
    return parse_record(RECORD.read_bytes()) if is_inside and RECORD.is_file() else None


def stale(built: BuildRecord, checkout: Path) -> str | None:
    """Say how a checkout differs from what an image was made from, and the cure; None where it does not."""
    try:
        now = _record(checkout, built.target)
    except OSError as error:
        return f"the checkout cannot be compared with this image: {error.filename}: {error.strerror}"
    if now.build_id == built.build_id:
        return None
    changed = sorted(
        name for name in {*built.files, *now.files} if built.files.get(name) != now.files.get(name)
    )
    named = ", ".join(changed[:_MOST_NAMED])
    more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
    verb, service = "differs" if len(changed) == 1 else "differ", _SERVICES[built.target]
    return (
        f"this image is older or newer than the checkout ({named}{more} {verb}): "
        f"rebuild it with `docker-compose build {service}`, or `harness image build --target {built.target}`"
    )


def main(arguments: list[str]) -> int:
    """Write an image's record (``write ROOT TARGET FILE``), or compare with a checkout (``check ROOT``)."""
    match arguments:
        case ["write", root, target, file]:
            text = json.dumps(asdict(_record(Path(root), target)), indent=1, sort_keys=True)
            Path(file).write_text(text + "\n", encoding="utf-8")
            return 0
        case ["check", root]:
            built = read_build_record()
            problem = "this is no image" if built is None else stale(built, Path(root))
            if problem is None:
                return 0
            sys.stderr.write(f"harness: {problem}\n")
            return _BAD_INPUT
    sys.stderr.write("usage: python -m harness.build_id write ROOT TARGET FILE | check ROOT\n")
    return _BAD_INPUT


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
