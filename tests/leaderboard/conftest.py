from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.tiny import SIDE, tiny_base, tiny_clip, tiny_dataset, tiny_faces

PROMPTS = [
    {"id": "beach", "class": "scene", "text": "a photo of a <subject>, on a beach"},
    {"id": "sketch", "class": "style", "text": "a pencil sketch of a <subject>"},
    {"id": "hat", "class": "accessory", "text": "a photo of a <subject>, wearing a red top hat"},
]


@dataclass(frozen=True)
class World:
    """Folders of tiny components, and the configuration of an evaluation with them."""

    root: Path
    config: Path

    def change(self, **protocol: object) -> Path:
        """A configuration file with other values for the protocol."""
        data = yaml.safe_load(self.config.read_text())
        data["protocol"] |= protocol
        path = self.root / f"changed-{abs(hash(str(protocol)))}.yaml"
        path.write_text(yaml.safe_dump(data))
        return path


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    (root / "prompts.yaml").write_text(yaml.safe_dump({"prompts": PROMPTS}))
    protocol = {
        "prompts": str(root / "prompts.yaml"),
        "dataset": str(tiny_dataset(root / "dataset")),
        "subjects": 2,
        "samples": 2,
        "backbone": str(tiny_base(root / "base")),
        "resolution": SIDE,
        "steps": 2,
    }
    judges = {"faces": str(tiny_faces(root / "faces")), "clip": str(tiny_clip(root / "clip"))}
    config = root / "evaluation.yaml"
    config.write_text(yaml.safe_dump({"protocol": protocol, "judges": judges, "batch_size": 5}))
    return World(root, config)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
