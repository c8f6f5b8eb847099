from __future__ import annotations

from dataclasses import replace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from ptycho_torch.config_factory import create_training_payload
from ptycho_torch.data.datamodule import PtychoDataModule
from ptycho_torch.errors import DataError
from ptycho_torch.exact.checkpoint_io import DurableCheckpointIO, resume_position
from ptycho_torch.headers import ScanHeader
from tests.torch.made_up_scans import make_scan

WORKERS = [
    {"num_workers": 0},
    {"num_workers": 1},
    {"num_workers": 2, "prefetch_factor": 3},
    {"num_workers": 2, "persistent_workers": True},
]


def payload(tmp_path, scan, **overrides):
    header = ScanHeader(file=None, N=scan.side_px, n_frames=scan.n_frames, units=scan.units)
    settings = {"n_groups": 20, "batch_size": 8, "units": scan.units} | overrides
    return create_training_payload(header, tmp_path, settings)


@pytest.fixture(scope="module")
def scan():
    return make_scan(rows=5, columns=6, side=64, step_px=4.0)


def contents(batches):
    return [
        tuple(None if value is None else value.clone() for value in vars(batch).values()) for batch in batches
    ]


def are_equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(ours, theirs) if ours is not None else theirs is None
        for one, other in zip(first, second, strict=True)
        for ours, theirs in zip(one, other, strict=True)
    )


def epochs(datamodule, count=2):
    loader, collected = datamodule.train_dataloader(), []
    for epoch in range(count):
        loader.batch_sampler.set_epoch(epoch)
        collected += contents(loader)
    return collected + contents(datamodule.val_dataloader())


def test_the_batches_do_not_depend_on_the_workers(tmp_path, scan):
    runs = [
        epochs(PtychoDataModule(payload(tmp_path, scan, gridsize=2, **workers), scan, None, seed=3))
        for workers in WORKERS
    ]
    assert all(are_equal(runs[0], other) for other in runs[1:])


def test_loading_leaves_the_global_generator_alone(tmp_path, scan):
    datamodule = PtychoDataModule(payload(tmp_path, scan), scan, None, seed=3)
    before = torch.random.get_rng_state()
    epochs(datamodule)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_epoch_sees_every_group_once_and_another_epoch_another_order(tmp_path, scan):
    datamodule = PtychoDataModule(payload(tmp_path, scan), scan, None, seed=3)
    loader, orders = datamodule.train_dataloader(), []
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        orders.append(torch.cat([batch.index for batch in loader]).tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("gridsize", [1, 2])
def test_no_frame_of_a_validation_group_is_in_a_training_group(tmp_path, scan, gridsize):
    settings = payload(tmp_path, scan, gridsize=gridsize, validation_fraction=0.2)
    datamodule = PtychoDataModule(settings, scan, None, seed=3)
    train, held_out = datamodule.groups
    assert not set(train.ravel()) & set(held_out.ravel())
    assert set(train.ravel()) <= set(datamodule.frames[0])
    assert set(held_out.ravel()) == set(datamodule.frames[1])
    assert train.shape == (20, gridsize**2)


def test_the_scales_come_from_training_frames_only(tmp_path, scan):
    settings = payload(tmp_path, scan, validation_fraction=0.2)
    datamodule = PtychoDataModule(settings, scan, None, seed=3)
    stack = scan.diffraction.copy()
    stack[datamodule.frames[1]] *= 50
    spoiled = PtychoDataModule(settings, replace(scan, diffraction=stack), None, seed=3)
    assert spoiled.scaling == datamodule.scaling
    assert spoiled.groups_digest == datamodule.groups_digest


def test_groups_follow_the_seed_and_are_made_once(tmp_path, scan):
    settings = payload(tmp_path, scan, gridsize=2)
    digests = [PtychoDataModule(settings, scan, None, seed=seed).groups_digest for seed in (3, 3, 4)]
    assert digests[0] == digests[1] != digests[2]
    datamodule = PtychoDataModule(settings, scan, None, seed=3)
    groups = datamodule.groups[0].copy()
    datamodule.setup("fit")
    epochs(datamodule)
    datamodule.setup("fit")
    assert np.array_equal(datamodule.groups[0], groups)


def test_a_subsample_is_all_that_is_used(tmp_path, scan):
    settings = payload(tmp_path, scan, n_groups=5, n_subsample=10, sequential_sampling=True)
    datamodule = PtychoDataModule(settings, scan, None, seed=3)
    assert set(np.concatenate(datamodule.frames)) == set(range(10))


def test_a_test_scan_is_the_validation_data_with_the_training_scales(tmp_path, scan):
    test = replace(scan, diffraction=scan.diffraction[::-1] * np.float32(2), source="test")
    datamodule = PtychoDataModule(payload(tmp_path, scan), scan, test, seed=3)
    assert np.array_equal(datamodule.frames[0], np.arange(30))
    assert np.array_equal(datamodule.frames[1], np.arange(30))
    first = next(iter(datamodule.val_dataloader()))
    expected = np.square(test.diffraction[first.index.numpy()])
    assert np.array_equal(first.measured_intensity[:, 0].numpy(), expected)


def test_without_validation_frames_there_is_no_validation_loader(tmp_path, scan):
    datamodule = PtychoDataModule(payload(tmp_path, scan, validation_fraction=0.0), scan, None, seed=3)
    assert datamodule.val_dataloader() == []
    assert datamodule.groups[1].shape == (0, 1)


def test_the_largest_offset_bounds_both_sides(tmp_path, scan):
    single = PtychoDataModule(payload(tmp_path, scan), scan, None, seed=3)
    assert single.max_offset_px == 0
    grouped = PtychoDataModule(
        payload(tmp_path, scan, gridsize=2, validation_fraction=0.2), scan, None, seed=3
    )
    for groups in grouped.groups:
        corners_px = scan.corners_px[groups]
        spread = np.abs(corners_px - corners_px.mean(axis=1, keepdims=True)).max()
        assert 0 < spread <= grouped.max_offset_px + 1e-5


def test_groups_may_be_the_squares_of_a_raster(tmp_path):
    corners_px = np.stack(np.divmod(np.arange(30), 6), axis=1) * 4.0
    scan = replace(make_scan(rows=5, columns=6, side=64, step_px=4.0), corners_px=corners_px)
    settings = {"gridsize": 2, "grouping": "square", "validation_fraction": 0.0}
    datamodule = PtychoDataModule(payload(tmp_path, scan, **settings), scan, scan, seed=3)
    train, validation = datamodule.groups
    assert len(train) == len({tuple(group) for group in train}) == 20
    assert len(validation) == 4 * 5
    for groups in (train, validation):
        steps_px = corners_px[groups] - corners_px[groups[:, :1]]
        assert np.array_equal(steps_px, np.broadcast_to([(0, 0), (0, 4), (4, 0), (4, 4)], steps_px.shape))
    with pytest.raises(DataError, match="train frames: training.n_groups is 21 but"):
        PtychoDataModule(payload(tmp_path, scan, **settings, n_groups=21), scan, None, seed=3)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"n_groups": 29}, "made up, train frames: training.n_groups is 29 but only 28"),
        ({"gridsize": 2, "validation_fraction": 0.96, "n_groups": 1}, "too few to hold out 30"),
        ({"n_subsample": 31}, "30 frames"),
    ],
)
def test_frames_that_do_not_suffice_are_refused(tmp_path, scan, overrides, complaint):
    header = ScanHeader(file=None, N=64, n_frames=1000, units=scan.units)
    settings = create_training_payload(header, tmp_path, {"n_groups": 20, "units": scan.units} | overrides)
    with pytest.raises(DataError, match=complaint):
        PtychoDataModule(settings, scan, None, seed=3)


def test_a_scan_of_another_size_or_in_other_units_is_refused(tmp_path, scan):
    settings = payload(tmp_path, scan)
    with pytest.raises(DataError, match=r"model\.N is 64"):
        PtychoDataModule(settings, make_scan(), None, seed=3)
    normalized = replace(scan, units="normalized_amplitude")
    with pytest.raises(DataError, match=r"data\.units"):
        PtychoDataModule(settings, scan, normalized, seed=3)


class Recorder(pl.LightningModule):
    """A module that notes which groups it sees."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, tuple(batch.index.tolist())))
        return (self.weight * batch.input_amplitude.mean()).sum()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.weight.sum(), batch_size=len(batch.index))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveEveryStep(pl.Callback):
    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.save_checkpoint(self.folder / f"step{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.folder / f"end{trainer.global_step}.ckpt")


def trainer(tmp_path, callbacks=()):
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=list(callbacks),
        plugins=[DurableCheckpointIO()],
        default_root_dir=tmp_path,
    )


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("workers", [WORKERS[0], WORKERS[3]])
def test_a_run_resumed_from_any_step_sees_what_the_whole_run_saw(tmp_path, scan, workers):
    settings = payload(tmp_path, scan, **workers)
    whole = Recorder()
    saver = SaveEveryStep(tmp_path)
    trainer(tmp_path, [saver]).fit(whole, datamodule=PtychoDataModule(settings, scan, None, seed=3))
    assert len(whole.seen) == 9
    checkpoints = {"step1": 1, "step3": 3, "end3": 3, "step5": 5, "end6": 6, "step8": 8}
    if workers["num_workers"]:
        checkpoints = {"step5": 5}
    for name, steps in checkpoints.items():
        path = tmp_path / f"{name}.ckpt"
        datamodule, resumed = PtychoDataModule(settings, scan, None, seed=3), Recorder()
        datamodule.set_position(*resume_position(DurableCheckpointIO().load_checkpoint(path)))
        trainer(tmp_path).fit(resumed, datamodule=datamodule, ckpt_path=path)
        assert resumed.seen == whole.seen[steps:], name
        assert torch.equal(resumed.weight, whole.weight), name
