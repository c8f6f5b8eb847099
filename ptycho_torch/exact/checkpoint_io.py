"""Checkpoint files that are either whole and durable, or not there."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from ptycho_torch.checkpoint_parts import foreign_part
from ptycho_torch.durable import open_durably, sync_folder
from ptycho_torch.errors import CheckpointError

_LOAD_ERRORS = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError, OSError)


class DurableCheckpointIO(CheckpointIO):
    """Write checkpoints through a synced temporary file beside them; read them without pickled code."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint so that a crash leaves either the old file or the whole new one.

        Parameters
        ----------
        checkpoint
            What Lightning collects: tensors, numbers, strings and containers of them.
        path
            Target file.
        storage_options
            Must be None: there is only the local disk.

        Raises
        ------
        CheckpointError
            When `storage_options` are given, or the file cannot be written.
        """
        path = Path(path)
        if storage_options is not None:
            raise CheckpointError(f"{path.name}: storage_options are {storage_options!r} (legal: None)")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open_durably(path) as stream:
                torch.save(checkpoint, stream)
        except (OSError, RuntimeError) as error:
            # Where the disk fails, torch's writer raises an error of its own over it as it closes.
            reason = error if isinstance(error, OSError) else error.__context__
            if not isinstance(reason, OSError):
                raise
            raise CheckpointError(f"{path.name}: the checkpoint cannot be written ({reason})") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint; tensors and plain values only, whatever `weights_only` asks for.

        Raises
        ------
        CheckpointError
            When the file is absent, torn, altered, or not a checkpoint.
        """
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
                foreign = foreign_part(archive)
        except FileNotFoundError as error:
            raise CheckpointError(f"{path.name}: there is no such checkpoint") from error
        except (zipfile.BadZipFile, OSError) as error:
            raise CheckpointError(f"{path.name}: not a whole torch checkpoint ({error})") from error
        if damaged is not None:
            raise CheckpointError(
                f"{path.name}: the checkpoint was altered, part {damaged!r} fails its checksum"
            )
        if foreign is not None:
            raise CheckpointError(f"{path.name}: the checkpoint cannot be read ({foreign})")
        try:
            content = torch.load(path, map_location=map_location, weights_only=True)
        except _LOAD_ERRORS as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"{path.name}: the checkpoint cannot be read ({reason})") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{path.name}: holds a {type(content).__name__}, not a checkpoint")
        return cast("dict[str, Any]", content)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint file; one that is gone already is no error."""
        path = Path(path)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)


def resume_position(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """Tell where a run continues that starts again from a Lightning checkpoint.

    Lightning itself would begin the epoch anew. Give the result to the sampler before its loader is
    iterated: see :meth:`ptycho_torch.exact.sampler.KeyedBatchSampler.set_position`.

    Parameters
    ----------
    checkpoint
        The loaded checkpoint.

    Returns
    -------
    tuple
        Epoch, and how many of its batches are already processed.

    Raises
    ------
    CheckpointError
        When the checkpoint does not tell.
    """
    try:
        loop = checkpoint["loops"]["fit_loop"]
        epochs = loop["epoch_progress"]["current"]
        batches = loop["epoch_loop.batch_progress"]
        epoch, begun = int(epochs["processed"]), int(epochs["started"])
        batch, is_last = int(batches["current"]["processed"]), bool(batches["is_last_batch"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint does not tell where it stands in an epoch ({error!r})"
        ) from error
    if begun == epoch:
        return epoch, 0
    return (epoch + 1, 0) if is_last else (epoch, batch)
