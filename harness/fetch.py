"""Download a public data file once, checked by its digest, into a cache that later runs find it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from harness.called import called, data_named_by, way_to_fetch
from harness.errors import UserError
from ptycho_torch.durable import open_durably

__all__ = ["Bar", "Fetcher"]


class Bar(Protocol):
    """A progress bar as the downloader drives it."""

    total: int

    def update(self, step: int) -> None:
        """Count bytes that have arrived."""
        ...

    def reset(self) -> None:
        """Begin again."""
        ...

    def close(self) -> None:
        """Take the bar down."""
        ...


class Fetcher:
    """Downloads files, each into a folder named after its digest.

    Parameters
    ----------
    folder
        The cache.
    bar
        Shows the progress; None shows none.
    may_download
        Whether the network may be used; else only the cache is looked into.
    spec
        The spec that names the files, for the command that fetches them.
    """

    def __init__(
        self, folder: Path, bar: Bar | None = None, *, may_download: bool = True, spec: Path | None = None
    ) -> None:
        self.folder = folder
        self.bar = bar
        self.may_download = may_download
        self.spec = spec

    def kept(self, sha256: str) -> tuple[Path, ...]:
        """List the files that were downloaded under a digest."""
        folder = self.folder / sha256
        return tuple(sorted(path for path in folder.iterdir() if path.is_file())) if folder.is_dir() else ()

    def __call__(self, url: str, sha256: str, name: str) -> Path:
        """Return the checked file, downloaded unless it is in the cache.

        Parameters
        ----------
        url
            Its address.
        sha256
            The digest that it must have.
        name
            The name that it gets.

        Raises
        ------
        UserError
            The file cannot be fetched, or is not the one that was asked for.
        """
        if not (self.may_download or (self.folder / sha256 / name).is_file()):
            cure = way_to_fetch() or (called("fetch", self.spec) if self.spec else called("fetch SPEC"))
            raise UserError(f"{name} is in no data folder yet: `{cure}` downloads it from {url}")
        import logging

        import pooch
        import requests

        pooch.get_logger().setLevel(logging.WARNING)
        over_http: Any = pooch.HTTPDownloader(progressbar=self.bar or False, timeout=60)

        def download(address: str, temporary: str, asker: Any) -> None:
            # pooch's own temporary file is its owner's alone, and a container may be somebody else's.
            with open_durably(Path(temporary)) as stream:
                over_http(address, stream, asker)

        try:
            path = pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}",
                fname=name,
                path=self.folder / sha256,
                downloader=download,
            )
        except ValueError as error:
            raise UserError(
                f"{url} is not the file that was asked for: its sha256 is not {sha256}"
            ) from error
        except (OSError, requests.RequestException) as error:
            networked = way_to_fetch()
            by_hand = f"get it on another machine, and name its folder by {data_named_by()}"
            cure = f"there is no network here, `{networked}` has one; or {by_hand}" if networked else by_hand
            raise UserError(f"{url} cannot be fetched ({type(error).__name__}): {cure}") from error
        return Path(path)
