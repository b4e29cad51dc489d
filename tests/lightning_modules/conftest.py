import copy
from pathlib import Path

import pytest

from networks.backbone import Backbone, load_backbone
from pocket.tiny.components import tiny_base


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("methods") / "base")


@pytest.fixture(scope="session")
def loaded(base_folder: Path) -> Backbone:
    return load_backbone(str(base_folder))


@pytest.fixture
def backbone(loaded: Backbone) -> Backbone:
    """A copy, because a method puts processors into its UNet."""
    return copy.deepcopy(loaded)
