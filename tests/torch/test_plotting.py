from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from skimage.io import imread

from ptycho_torch.alignment import Aligned, align_with_truth
from ptycho_torch.errors import DataError
from ptycho_torch.metrics import compare_aligned
from ptycho_torch.plotting import save_pictures
from ptycho_torch.stitching import Reconstruction, stitch
from tests.torch.known_object import KnownScan, make_known_scan


@pytest.fixture
def known_scan() -> KnownScan:
    return make_known_scan()


def draw(scan: KnownScan, folder: Path) -> tuple[Path, ...]:
    made = stitch(scan.patches, scan.corners_px, scan.probe_intensity)
    aligned = align_with_truth(made.object, made.coverage, made.frame_origin_px, scan.object)
    return save_pictures(made, folder, aligned=aligned, metrics=compare_aligned(aligned), title="known")


def flat(size: tuple[int, int] = (40, 40), phase: np.ndarray | None = None) -> Reconstruction:
    obj = np.ones(size) if phase is None else np.exp(1j * phase)
    return Reconstruction(
        obj.astype(np.complex64), np.ones(size, dtype=np.float32), np.array([0, 0]), accepted=1, total=1
    )


def test_the_same_reconstruction_gives_the_same_bytes(known_scan: KnownScan, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    first, second = (draw(known_scan, folder) for folder in folders)
    assert [path.name for path in first] == ["phase.png", "amplitude.png", "comparison.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return save_pictures(flat(), tmp_path_factory.mktemp("plain"))


def test_a_picture_is_written_beside_its_name_and_replaces_a_torn_one_whole(tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    torn.write_bytes(b"half a picture")
    os.link(torn, tmp_path / "phase.png")
    drawn = save_pictures(flat(), tmp_path)
    assert torn.read_bytes() == b"half a picture"
    assert set(tmp_path.iterdir()) == {torn, *drawn}
    assert all(path.read_bytes().endswith(b"IEND\xaeB`\x82") for path in drawn)


def test_a_picture_names_neither_a_date_nor_a_program(plain: tuple[Path, ...]) -> None:
    for path in plain:
        chunks = path.read_bytes()
        assert not [word for word in (b"tEXt", b"tIME", b"iTXt", b"zTXt", b"atplotlib") if word in chunks]


def test_the_users_own_matplotlib_settings_change_nothing(plain: tuple[Path, ...], tmp_path: Path) -> None:
    with mpl.rc_context({"axes.titlesize": 30, "image.cmap": "gray", "savefig.dpi": 30}):
        changed = [path.read_bytes() for path in save_pictures(flat(), tmp_path)]
        assert mpl.rcParams["savefig.dpi"] == 30
    assert changed == [path.read_bytes() for path in plain]


def test_a_reference_without_a_phase_leaves_the_colours_to_the_prediction(tmp_path: Path) -> None:
    phase = np.linspace(-0.4, 0.4, 1600).reshape(40, 40)
    obj, truth = np.exp(1j * phase), np.ones((40, 40), dtype=np.complex128)
    aligned = Aligned(obj, truth, obj, (0, 0), shift_px=(0, 0), ramp_rad_per_px=(0, 0), phase_rad=0, scale=1)
    drawn = imread(save_pictures(flat(phase=phase), tmp_path, aligned=aligned)[-1])
    height, width = drawn.shape[:2]
    inside = drawn[height // 6 : height // 3, width // 12 : width // 6].reshape(-1, drawn.shape[2])
    assert len(np.unique(inside, axis=0)) > 50


def test_without_a_truth_there_is_no_comparison(plain: tuple[Path, ...]) -> None:
    assert [path.name for path in plain] == ["phase.png", "amplitude.png"]


def pixels_of(colour: tuple[int, int, int], path: Path) -> int:
    return int((imread(path)[..., :3] == colour).all(axis=-1).sum())


def test_pixels_without_coverage_are_grey(plain: tuple[Path, ...], tmp_path: Path) -> None:
    made = flat()
    made.coverage[10:30, 10:30] = 0
    grey = (217, 217, 217)
    picture = save_pictures(made, tmp_path)[1]
    assert pixels_of(grey, picture) > 0.15 * pixels_of(most_common(picture), picture)
    assert pixels_of(grey, plain[1]) < 200


def most_common(path: Path) -> tuple[int, int, int]:
    """Find the commonest colour but white."""
    image = imread(path)[..., :3].reshape(-1, 3)
    colours, counts = np.unique(image[(image < 255).any(axis=1)], axis=0, return_counts=True)
    red, green, blue = colours[int(np.argmax(counts))].tolist()
    return red, green, blue


def as_numbers(colours: np.ndarray) -> np.ndarray:
    return colours.astype(np.int64) @ np.array([65536, 256, 1])


@pytest.mark.parametrize(
    ("reach", "expected", "other"), [(math.pi, "twilight", "RdBu_r"), (1.0, "RdBu_r", "twilight")]
)
def test_phases_that_fill_the_circle_get_a_cyclic_map_and_others_a_diverging_one(
    tmp_path: Path, reach: float, expected: str, other: str
) -> None:
    columns = np.broadcast_to(np.linspace(-reach, reach, 120), (120, 120))
    picture = as_numbers(imread(save_pictures(flat((120, 120), columns), tmp_path)[0])[..., :3])

    def drawn_with(name: str) -> int:
        table = as_numbers(mpl.colormaps[name](np.arange(256), bytes=True)[:, :3])
        return int(np.isin(picture, table).sum())

    assert drawn_with(expected) > 100_000 > 10 * drawn_with(other)


def test_an_object_that_nothing_covers_is_refused(tmp_path: Path) -> None:
    made = flat()
    made.coverage[:] = 0
    with pytest.raises(DataError, match="nothing to draw"):
        save_pictures(made, tmp_path)


def test_drawing_starts_no_window_and_leaves_the_global_state_alone(tmp_path: Path) -> None:
    program = (
        "import sys, ptycho_torch.plotting; "
        "sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    )
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", program], check=False, env=environment).returncode == 0
