"""Payloads for tests, made from a header that needs no file."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ptycho_torch.config_factory import TrainingPayload, create_training_payload
from ptycho_torch.errors import ConfigError
from ptycho_torch.headers import ScanHeader
from ptycho_torch.layers import Place

HEADER = ScanHeader(file=None, N=64, n_frames=2000, units="count_amplitude")
NORMALIZED = dataclasses.replace(HEADER, units="normalized_amplitude")
PLACE = Place("run.yaml", 7, 3)


def train(*overrides: dict[str, Any], header: ScanHeader = HEADER, **keywords: Any) -> TrainingPayload:
    return create_training_payload(header, "out", [*overrides, {"n_groups": 512}], **keywords)


def problems_of(*overrides: dict[str, Any], **keywords: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        train(*overrides, **keywords)
    return dict(zip(caught.value.keys, caught.value.problems, strict=True))
