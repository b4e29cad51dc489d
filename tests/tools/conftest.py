from pathlib import Path

import pytest

from pocket.tiny.components import tiny_base


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model of the smallest size. Copy it before changing a file."""
    return tiny_base(tmp_path_factory.mktemp("tools") / "base")
