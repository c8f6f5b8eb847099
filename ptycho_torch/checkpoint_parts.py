"""Whether a checkpoint's archive has the parts that ``torch.save`` writes, and all read the same from it."""

from __future__ import annotations

import re
import zipfile

__all__ = ["foreign_part"]

_PART = re.compile(
    r"([^/\\\0]+)/(data\.pkl|byteorder|version|\.format_version|\.storage_alignment"
    r"|\.data/serialization_id|data/[0-9]+)"
)
_END = b"PK\x05\x06"
_END_BYTES = 22


def foreign_part(archive: zipfile.ZipFile) -> str | None:
    """Say what an archive holds that ``torch.save`` never writes; None when there is no such thing.

    Readers differ in what they make of it: torch looks names up without regard to case, and takes the folder
    of the first part for the only one.

    Parameters
    ----------
    archive
        The open archive.
    """
    names = [info.orig_filename for info in archive.infolist()]
    if len(set(names)) != len(names):
        return "it holds two parts of one name"
    found = {name: _PART.fullmatch(name) for name in names}
    strange = sorted(name for name, match in found.items() if match is None)
    if strange:
        return f"it holds {strange[0]!r}, which is no part of a checkpoint"
    folders = sorted({match[1] for match in found.values() if match is not None})
    if len(folders) != 1:
        return f"it holds {len(folders)} folders, not one"
    if f"{folders[0]}/data.pkl" not in names:
        return "it holds no data.pkl"
    return None if _is_bare(archive) else "bytes stand before the archive, or after it"


def _is_bare(archive: zipfile.ZipFile) -> bool:
    stream = archive.fp
    if stream is None or archive.comment or min(info.header_offset for info in archive.infolist()) != 0:
        return False
    stream.seek(-_END_BYTES, 2)
    return stream.read(len(_END)) == _END
