from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Iterator

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ptycho_torch.config import ModelConfig, PyTorchExecutionConfig, TrainingConfig
from ptycho_torch.data.dataset import Batch, Scaling
from ptycho_torch.errors import DataError
from ptycho_torch.losses import LOSSES
from ptycho_torch.module import PtychoModule
from ptycho_torch.physics.probe import annular_probe
from ptycho_torch.side_by_side import SideBySide

SCALING = Scaling(
    input_scale=1.0, intensity_scale=4e4, counts_per_amplitude=1.0, mean_counts=1e4, probe_power=1.0
)
ROOTS = ("Sqrt", "Rsqrt", "Atan", "Angle", "PowBackward", "Norm", "Foreach", "Std", "Var")


def _module(
    model: dict[str, object] | None = None,
    training: dict[str, object] | None = None,
    execution: dict[str, object] | None = None,
) -> PtychoModule:
    torch.manual_seed(0)
    small = {"n_filters_scale": 1, "attention": False, "probe_big": False}
    settings = ModelConfig(**(small | (model or {})))
    return PtychoModule(
        model=settings,
        training=TrainingConfig(**({"n_groups": 6, "batch_size": 2} | (training or {}))),
        execution=PyTorchExecutionConfig(**(execution or {})),
        probe=annular_probe(settings.N, pupil_radius_px=10, stop_fraction=0.4, defocus_waves=0.8),
        scaling=SCALING,
        max_offset_px=3.0 if settings.gridsize > 1 else None,
    )


def _batch(C: int = 1, B: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(3)
    counts = torch.poisson(torch.rand(B, C, 64, 64, generator=generator) * 5, generator=generator)
    offsets = torch.rand(B, C, 2, generator=generator) * 4 - 2
    return Batch(
        input_amplitude=counts.sqrt(),
        measured_intensity=counts,
        offsets_px=offsets - offsets.mean(dim=1, keepdim=True),
        mask=None,
        index=torch.arange(B),
    )


def _nodes(loss: torch.Tensor) -> Iterator[str]:
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node.name()
        waiting += [follower for follower, _ in node.next_functions]


class _Rates(pl.Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []
        self.steps = 0

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.fit_loop.epoch_loop.batch_idx == 0:
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_end(self, trainer: pl.Trainer, *_: object) -> None:
        self.steps = trainer.global_step


def _fit(module: PtychoModule, epochs: int, **settings: object) -> _Rates:
    recorder = _Rates()
    execution = module.execution
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        accumulate_grad_batches=execution.accum_steps,
        gradient_clip_val=execution.gradient_clip_val,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder],
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **settings,
    )
    batches = [_batch(), _batch(), _batch()]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer.fit(module, DataLoader(batches, batch_size=None), DataLoader(batches[:1], batch_size=None))
    return recorder


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("settings", [{}, {"gridsize": 2, "attention": True, "probe_big": True}])
def test_no_root_or_arctangent_stands_in_the_graph_of_a_training_step(loss: str, settings: dict[str, object]):
    module = _module(settings, {"loss": loss})
    value = module.batch_loss(_batch(settings.get("gridsize", 1) ** 2))
    names = list(_nodes(value))
    assert any("Convolution" in name for name in names)
    assert [name for name in names if any(word in name for word in ROOTS)] == []


def test_the_optimizer_is_fused_adam_over_all_parameters():
    optimizer = _module().configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.defaults["fused"] is True
    number = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert number == sum(p.numel() for p in _module().parameters())


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("Default", [1, 1, 1]),
        ("Exponential", [1, 0.95, 0.95**2]),
        ("MultiStage", [1, 0.3, 0.1]),
        ("WarmupCosine", [0.25, 1, 0.4109]),
        ("ReduceLROnPlateau", [1, 1, 0.5]),
    ],
)
def test_the_trainer_steps_every_scheduler_each_epoch(scheduler: str, expected: list[float]):
    module = _module(
        training={"epochs": 3, "lr_warmup_epochs": 1.0, "plateau_patience": 0, "plateau_min_lr": 0.0},
        execution={"scheduler": scheduler, "learning_rate": 1e-6, "checkpoint_monitor_metric": "train_loss"},
    )
    module.generator.requires_grad_(requires_grad=False)
    module.generator.phase.centre.bias.requires_grad_(requires_grad=True)
    rates = _fit(module, 3).rates
    assert [rate / 1e-6 for rate in rates] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("accum_steps", "per_epoch"), [(1, 3), (2, 2), (3, 1)])
def test_the_steps_of_an_epoch_are_those_that_the_trainer_takes(accum_steps: int, per_epoch: int):
    module = _module(execution={"accum_steps": accum_steps})
    assert module.steps_per_epoch == per_epoch
    assert _fit(module, 2).steps == 2 * per_epoch


def test_clipping_bounds_the_norm_of_all_gradients_together():
    module = _module()
    module.batch_loss(_batch()).backward()
    before = torch.nn.utils.get_total_norm([p.grad for p in module.parameters()]).item()
    module.configure_gradient_clipping(torch.optim.Adam(module.parameters()), before / 7, "norm")
    after = torch.nn.utils.get_total_norm([p.grad for p in module.parameters()]).item()
    assert after == pytest.approx(before / 7, rel=1e-5)


def test_clipping_leaves_a_smaller_norm_alone():
    module = _module()
    module.batch_loss(_batch()).backward()
    before = [p.grad.clone() for p in module.parameters()]
    module.configure_gradient_clipping(torch.optim.Adam(module.parameters()), 1e9, "norm")
    assert all(torch.equal(a, p.grad) for a, p in zip(before, module.parameters(), strict=True))


def test_a_small_clip_value_reaches_the_trainer_and_slows_nothing_but_the_first_moments():
    free, clipped = _module(), _module(execution={"gradient_clip_val": 1e-6})
    _fit(free, 1)
    _fit(clipped, 1)
    first = free.trainer.optimizers[0].state_dict()["state"][0]["exp_avg"].abs().max()
    second = clipped.trainer.optimizers[0].state_dict()["state"][0]["exp_avg"].abs().max()
    assert second < 1e-6 < first


def test_training_lowers_the_loss_at_both_grid_sizes():
    for gridsize in (1, 2):
        module = _module({"gridsize": gridsize}, execution={"learning_rate": 1e-4})
        optimizer, batch = module.configure_optimizers(), _batch(gridsize**2)
        losses = []
        for _ in range(6):
            optimizer.zero_grad()
            loss = module.batch_loss(batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]


def test_a_step_is_taken_at_every_size_of_the_frame():
    for N in (64, 128, 256):
        module = _module({"N": N, "attention": True, "probe_big": True})
        weights = {name: weight for name, weight in module.named_parameters() if "first.weight" in name}
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        counts = torch.poisson(torch.full((1, 1, N, N), 5.0), generator=torch.Generator().manual_seed(3))
        batch = Batch(counts.sqrt(), counts, torch.zeros(1, 1, 2), None, torch.arange(1))
        optimizer = module.configure_optimizers()
        module.batch_loss_in_parts(batch).backward()
        optimizer.step()
        assert len(weights) == 3 * N.bit_length() - 14
        assert not [name for name, weight in weights.items() if torch.equal(weight, before[name])]


def test_the_predicted_counts_of_an_untrained_network_are_those_of_the_mean_frame():
    module = _module()
    batch = dataclasses.replace(_batch(), input_amplitude=torch.zeros(2, 1, 64, 64))
    patches = module.predict_patches(batch.input_amplitude)
    counts = module.forward_model(patches, batch.offsets_px).sum(dim=(-2, -1))
    torch.testing.assert_close(counts, torch.full((2, 1), 1e4), rtol=0.06, atol=0)


def test_masked_pixels_do_not_enter_the_loss():
    module, batch = _module(), _batch()
    mask = torch.ones(64, 64, dtype=torch.bool)
    mask[10:12, 30:40] = False
    broken = batch.measured_intensity.clone()
    broken[..., ~mask] = 1e6
    masked = dataclasses.replace(batch, mask=mask)
    assert module.batch_loss(masked) == module.batch_loss(
        dataclasses.replace(masked, measured_intensity=broken)
    )


@pytest.mark.parametrize("gridsize", [1, 2])
def test_a_checkpoint_holds_all_that_is_needed_to_rebuild_the_module(gridsize: int):
    module = _module(
        {"gridsize": gridsize, "attention": True}, {"stage_epochs": (3,), "stage_factors": (1.0, 0.1)}
    )
    file = io.BytesIO()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, file)
    file.seek(0)
    rebuilt = PtychoModule.from_checkpoint(torch.load(file, weights_only=True), PyTorchExecutionConfig())
    batch = _batch(gridsize**2)
    assert torch.equal(*(one.predict_patches(batch.input_amplitude) for one in (rebuilt, module)))
    assert torch.equal(rebuilt.batch_loss(batch), module.batch_loss(batch))
    assert rebuilt.training_config == module.training_config


def test_a_step_gives_the_same_bits_twice():
    def gradients() -> list[torch.Tensor]:
        module = _module({"gridsize": 2, "attention": True})
        module.batch_loss(_batch(4)).backward()
        return [p.grad for p in module.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))


@pytest.mark.parametrize("groups", [1, 3])
def test_a_batch_in_parts_has_the_loss_and_the_gradients_of_the_whole(
    groups: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ptycho_torch.module.PIXELS_AT_ONCE", 2 * 4 * 64 * 64)
    module, batch = _module({"gridsize": 2, "attention": True}).double(), _batch(4, groups)
    batch = dataclasses.replace(
        batch,
        input_amplitude=batch.input_amplitude.double(),
        measured_intensity=batch.measured_intensity.double(),
        offsets_px=batch.offsets_px.double(),
    )
    parameters = list(module.parameters())
    whole, parts = module.batch_loss(batch), module.batch_loss_in_parts(batch)
    torch.testing.assert_close(parts, whole)
    for a, b in zip(
        torch.autograd.grad(parts * 3, parameters),
        torch.autograd.grad(whole * 3, parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_network_never_sees_more_than_a_part_of_a_batch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ptycho_torch.module.PIXELS_AT_ONCE", 2 * 64 * 64)
    module, seen = _module(), []
    module.side_by_side = SideBySide(in_turns=True)
    module.generator.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    module.batch_loss_in_parts(_batch(B=5))
    with torch.no_grad():
        module.batch_loss_in_parts(_batch(B=3))
    assert seen == [2, 2, 1, 2, 1]


class _TwoBiasesAddUp(torch.nn.Module):
    """Two parameters that are given one and the same gradient, and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))

    def forward(self, amplitude: torch.Tensor) -> torch.Tensor:
        return torch.complex(1 + amplitude.mean() + self.first + self.second, amplitude * 0)


def test_a_network_that_shares_gradients_or_leaves_weights_out_is_differentiated_right_in_parts(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("ptycho_torch.module.PIXELS_AT_ONCE", 64 * 64)
    module, batch = _module(), _batch(B=4)
    module.generator = _TwoBiasesAddUp()
    module.batch_loss(batch).backward()
    whole = module.generator.first.grad.clone()
    module.zero_grad()
    module.batch_loss_in_parts(batch).backward()
    torch.testing.assert_close(module.generator.first.grad, whole)
    torch.testing.assert_close(module.generator.second.grad, whole)
    assert module.generator.unused.grad.item() == 0


def test_validation_computes_no_gradient(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ptycho_torch.module.PIXELS_AT_ONCE", 64 * 64)
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("a gradient was computed"))
    module = _module()
    with torch.no_grad():
        module.batch_loss_in_parts(_batch(B=3))
    with torch.inference_mode():
        module.batch_loss_in_parts(_batch(B=3))


def test_no_step_reads_memory_that_was_not_written(monkeypatch: pytest.MonkeyPatch):
    def gradients(*, is_filled: bool) -> list[torch.Tensor]:
        monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", is_filled)
        module = _module({"gridsize": 2, "attention": True, "probe_big": True})
        module.batch_loss_in_parts(_batch(4, 3)).backward()
        return [p.grad for p in module.parameters()]

    was_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        pairs = list(zip(gradients(is_filled=True), gradients(is_filled=False), strict=True))
    finally:
        torch.use_deterministic_algorithms(was_deterministic)
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in pairs)


def test_a_network_takes_the_weights_of_another_and_keeps_the_probe_and_scales_of_its_own_scan() -> None:
    first, second = _module({"probe_trainable": True}), _module({"amplitude_level": 0.25})
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    physics = {name: tensor.clone() for name, tensor in second.forward_model.state_dict().items()}
    second.start_from(first.state_dict())
    frames = _batch().input_amplitude
    assert torch.equal(second(frames), first(frames))
    assert all(torch.equal(physics[name], now) for name, now in second.forward_model.state_dict().items())


def test_weights_of_other_layers_are_refused_in_one_sentence():
    weights = _module().state_dict()
    weights.pop("generator.encoder.0.first.weight")
    with pytest.raises(DataError, match=r"init_from names holds another network.*encoder\.0\.first\.weight"):
        _module().start_from(weights)


def test_a_probe_of_another_size_is_refused():
    with pytest.raises(DataError, match=r"model\.N is 128"):
        PtychoModule(
            model=ModelConfig(N=128, n_filters_scale=1),
            training=TrainingConfig(n_groups=1),
            execution=PyTorchExecutionConfig(),
            probe=np.ones((1, 64, 64), np.complex64),
            scaling=SCALING,
        )


def test_merging_without_a_canvas_is_refused():
    with pytest.raises(DataError, match="no largest offset"):
        PtychoModule(
            model=ModelConfig(gridsize=2, n_filters_scale=1),
            training=TrainingConfig(n_groups=1),
            execution=PyTorchExecutionConfig(),
            probe=np.ones((1, 64, 64), np.complex64),
            scaling=SCALING,
        )


def test_a_trainable_probe_learns_and_survives_a_checkpoint() -> None:
    module = _module({"probe_trainable": True})
    before = module.forward_model.probe.detach().clone()
    optimizer = module.configure_optimizers()
    module.batch_loss(_batch()).backward()
    optimizer.step()
    after = module.forward_model.probe.detach()
    assert not torch.equal(after, before)
    assert (after - before).abs().max() <= 1.5e-3 * before.abs().max()
    checkpoint: dict[str, object] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    again = PtychoModule.from_checkpoint(checkpoint, PyTorchExecutionConfig())
    torch.testing.assert_close(again.forward_model.probe, module.forward_model.probe)


def test_a_probe_that_is_not_trainable_is_no_parameter() -> None:
    assert "forward_model.probe_parts" not in dict(_module().named_parameters())
    assert "forward_model.probe_parts" in dict(_module({"probe_trainable": True}).named_parameters())
