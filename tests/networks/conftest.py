import copy
from pathlib import Path

import pytest

from networks.backbone import Backbone, load_backbone
from pocket.tiny.components import tiny_base


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of the smallest size. Copy it before changing a file."""
    return tiny_base(tmp_path_factory.mktemp("networks") / "base")


@pytest.fixture(scope="session")
def stock(base_folder: Path) -> Backbone:
    """The base model as it was loaded. Nobody changes it."""
    return load_backbone(str(base_folder))


@pytest.fixture
def backbone(stock: Backbone) -> Backbone:
    """A copy whose UNet a test may put processors into."""
    return copy.deepcopy(stock)
