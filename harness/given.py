"""What the options of a command stand for: where data are looked for and fetched to, and notes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.fetch import Fetcher

__all__ = ["fetcher_of_data", "folders_for_data", "tell_note"]


def tell_note(sentence: str) -> None:
    """Tell the user, beside what the command prints, something that was decided without being asked for."""
    click.echo(f"note: {sentence}", err=True)


def folders_for_data(data_dirs: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the folders of ``--data-dir``, and those of the environment after them."""
    from harness.sources import data_folders

    return data_folders(data_dirs)


def fetcher_of_data(*, may_download: bool, spec: Path | None = None) -> Fetcher:
    """Return what finds the data of a spec in the cache, and downloads them, with a bar, where it may."""
    from harness.cache import cache_folder
    from harness.fetch import Fetcher

    bar = None
    if may_download:
        from harness.screen import DownloadBar

        bar = DownloadBar()
    return Fetcher(cache_folder() / "data", bar, may_download=may_download, spec=spec)
