"""A small pocket dataset, tiny encoders and a feature cache that the tests of this folder share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from datamodules.batches.experts import ExpertStage
from datamodules.spotdiff10k import SpotDiff10kDataModule
from datamodules.validation import ValidationSettings
from pocket.render.dataset import Grid, pocket10k
from pocket.tiny.components import tiny_base, tiny_clip


@dataclass(frozen=True)
class World:
    """Where everything lies; ``datamodule`` makes one over it."""

    dataset: Path
    base: Path
    clip: Path
    cache: Path

    def datamodule(self, **arguments: Any) -> SpotDiff10kDataModule:
        return SpotDiff10kDataModule(
            **{
                "source": str(self.dataset),
                "backbone": str(self.base),
                "features": {"clip": {"encoder": str(self.clip)}},
                "resolution": 64,
                "batch_size": 4,
                "cache_dir": str(self.cache),
                **arguments,
            }
        )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Ten subjects (8 to train on) x 3 poses x 4 backgrounds."""
    root = tmp_path_factory.mktemp("world")
    return World(
        pocket10k(root / "data", Grid(10, 3, 4), processes=1),
        tiny_base(root / "base"),
        tiny_clip(root / "clip"),
        root / "cache",
    )


@pytest.fixture(scope="session")
def ready(world: World) -> SpotDiff10kDataModule:
    """A datamodule that is set up, with two steps for the experts; its features stay in the world's cache."""
    datamodule = world.datamodule(
        first_stage=ExpertStage(steps=2, batch_size=12),
        validation=ValidationSettings(prompts=["a photo of a <subject>", "a <subject> at sunset"]),
    )
    datamodule.prepare_data()
    datamodule.setup("fit")
    return datamodule
