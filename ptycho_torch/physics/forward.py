"""The forward model: object patches to predicted detector counts."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Complex64, Float32
from torch import Tensor, nn

from ptycho_torch.config import ModelConfig
from ptycho_torch.errors import DataError
from ptycho_torch.physics.patches import (
    canvas_side_px,
    extract,
    merge,
    merge_weight,
    with_edges_repeated,
)
from ptycho_torch.physics.probe import probe_support, within_support
from ptycho_torch.physics.propagation import far_field_intensity

__all__ = ["ForwardModel", "forward_model_of", "window_px"]


class ForwardModel(nn.Module):
    """Explain every pattern of a group by one merged object, seen through the probe.

    Parameters
    ----------
    probe
        Probe modes [M, N, N], complex, on the object's pixel grid.
    intensity_scale
        Counts per unit of ``sum_m |F(P_m O)|**2``, frozen from the training data.
    max_offset_px
        Largest absolute offset of a patch from its group's mean, pixels; it sets the canvas.
    window_px
        Side of the central window of a patch that is reconstructed, pixels.
    is_probe_trainable
        Let the optimizer improve the probe, in units of its largest initial amplitude.
    is_scale_trainable
        Let the optimizer improve the intensity scale: the logarithm of its ratio to `intensity_scale`.
    support
        Where the probe may be other than zero [N, N], bool; None: everywhere. A trained probe keeps to it.
    is_edge_repeated
        Let a shared patch go on with its outermost pixels where a pattern looks beyond it; else with zeros.

    Raises
    ------
    DataError
        If the probe is not a stack of square modes, or a group is too wide to be merged.
    """

    probe_parts: Tensor
    probe_unit: Tensor
    intensity_scale: Tensor
    log_intensity_gain: nn.Parameter | None
    weight: Tensor
    support: Tensor | None

    def __init__(
        self,
        probe: np.ndarray,
        intensity_scale: float,
        *,
        max_offset_px: float = 0.0,
        window_px: int | None = None,
        is_probe_trainable: bool = False,
        is_scale_trainable: bool = False,
        support: np.ndarray | None = None,
        is_edge_repeated: bool = False,
    ) -> None:
        super().__init__()
        if probe.ndim != 3 or probe.shape[1] != probe.shape[2]:
            raise DataError(f"the probe has shape {probe.shape}: give modes as (M, N, N)")
        N = probe.shape[-1]
        if support is not None:
            probe = probe * support
        self.canvas_side_px = canvas_side_px(N, max_offset_px)
        self.is_edge_repeated = is_edge_repeated
        unit = np.float32(np.abs(probe).max())
        parts = torch.view_as_real(torch.from_numpy((probe / unit).astype(np.complex64)))
        if is_probe_trainable:
            self.probe_parts = nn.Parameter(parts)
        else:
            self.register_buffer("probe_parts", parts)
        is_held = support is not None and is_probe_trainable
        self.register_buffer("support", torch.from_numpy(support) if is_held else None, persistent=False)
        self.register_buffer("probe_unit", torch.tensor(unit))
        self.register_buffer("intensity_scale", torch.tensor(intensity_scale, dtype=torch.float32))
        gain = nn.Parameter(torch.zeros(())) if is_scale_trainable else None
        self.register_parameter("log_intensity_gain", gain)
        self.register_buffer(
            "weight", merge_weight(N, N if window_px is None else window_px), persistent=False
        )

    @property
    def probe(self) -> Complex64[Tensor, "M N N"]:
        """The probe modes as they are now."""
        probe = torch.view_as_complex(self.probe_parts) * self.probe_unit
        return probe if self.support is None else probe * self.support

    @property
    def counts_per_unit(self) -> Float32[Tensor, ""]:
        """The intensity scale as it is now: the frozen one, or what training has made of it."""
        gain = self.log_intensity_gain
        return self.intensity_scale if gain is None else self.intensity_scale * gain.exp()

    def forward(
        self, patches: Complex64[Tensor, "B C N N"], offsets_px: Float32[Tensor, "B C0 2"]
    ) -> Float32[Tensor, "B C0 N N"]:
        """Predict the counts of every pattern.

        Parameters
        ----------
        patches
            Object patches: one per pattern, merged before they are seen through the probe, or one
            shared by all patterns of its group (C = 1).
        offsets_px
            Displacement of each pattern's patch from its group's middle (row, column), pixels.
        """
        if offsets_px.shape[1] > 1:
            patches = self.overlap(patches, offsets_px)
        exit_waves = patches[:, :, None] * self.probe
        return far_field_intensity(exit_waves) * self.counts_per_unit

    def overlap(
        self, patches: Complex64[Tensor, "B C N N"], offsets_px: Float32[Tensor, "B C0 2"]
    ) -> Complex64[Tensor, "B C0 N N"]:
        """Merge the patches of a group into one object and cut every pattern's patch out of it again."""
        side, N = self.canvas_side_px, patches.shape[-1]
        if patches.shape[1] == offsets_px.shape[1]:
            canvas = merge(patches, offsets_px, side, self.weight)
        elif self.is_edge_repeated:
            canvas = with_edges_repeated(patches[:, 0], side)
        else:
            margin = (side - N) // 2
            canvas = nn.functional.pad(patches[:, 0], (margin, margin, margin, margin))
        return extract(canvas[:, None], offsets_px, N)


def window_px(model: ModelConfig) -> int:
    """Return the side of the central window of a patch that a model reconstructs, pixels."""
    return model.N if model.probe_big else model.N // 2


def forward_model_of(
    model: ModelConfig, probe: np.ndarray, intensity_scale: float, max_offset_px: float | None
) -> ForwardModel:
    """Make the forward model that a configuration describes.

    Parameters
    ----------
    model
        The configuration.
    probe, intensity_scale
        As in :class:`ForwardModel`; what lies outside the configuration's mask is left out of the probe.
    max_offset_px
        As there; None where no group has more than one member.

    Raises
    ------
    DataError
        If the probe does not fit the model or its mask, or the largest offset is missing or too large.
    """
    if probe.shape[-1] != model.N:
        raise DataError(f"the probe is {probe.shape[-1]} px wide but model.N is {model.N}: they must agree")
    if model.gridsize > 1 and max_offset_px is None:
        raise DataError(f"model.gridsize is {model.gridsize} but no largest offset was given for the canvas")
    return ForwardModel(
        within_support(probe, model),
        intensity_scale,
        max_offset_px=max_offset_px or 0.0,
        window_px=window_px(model),
        is_probe_trainable=model.probe_trainable,
        is_scale_trainable=model.intensity_scale_trainable,
        support=probe_support(model),
        is_edge_repeated=model.object_rim == "edge",
    )
