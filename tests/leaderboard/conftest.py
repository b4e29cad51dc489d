import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from lightning_modules.spotdiff import SpotDiff
from networks.adapter_file import save_adapter
from networks.clip_image import load_clip_image
from pocket.tiny.components import SIDE, tiny_base, tiny_clip, tiny_dataset, tiny_faces

PROMPTS = [
    {"id": "beach", "class": "scene", "text": "a photo of a <subject>, on a beach"},
    {"id": "sketch", "class": "style", "text": "a pencil sketch of a <subject>"},
    {"id": "hat", "class": "accessory", "text": "a photo of a <subject>, wearing a red top hat"},
]


@dataclass(frozen=True)
class World:
    """Folders of tiny components, and the configuration of an evaluation with them."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "evaluation.yaml"

    @property
    def run(self) -> Path:
        """A run folder with an untrained SpotDiff."""
        return self.root / "spotdiff"

    def change(self, **protocol: object) -> Path:
        """A configuration file with other values for the protocol."""
        data = yaml.safe_load(self.config.read_text())
        data["protocol"] |= protocol
        path = self.root / f"evaluation-{'-'.join(sorted(protocol))}.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    def make_run(self, folder: Path, seed: int) -> Path:
        """A run folder as ``train.py`` leaves it, with random weights."""
        arguments = {
            "backbone": str(self.root / "base"),
            "image_width": load_clip_image(str(self.root / "clip")).width,
            "tokens": 2,
            "hidden": 8,
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            module = SpotDiff(**arguments)
        about = {"method": "SpotDiff", "backbone": module.backbone.fingerprint}
        save_adapter(folder / "adapter.safetensors", module.adapter(), about)
        model = {"class_path": "lightning_modules.SpotDiff", "init_args": arguments}
        data = {"image_encoder": str(self.root / "clip")}
        (folder / "config.yaml").write_text(yaml.safe_dump({"model": model, "data": data}))
        (folder / "manifest.json").write_text(json.dumps({"trainable_parameters": 123}))
        return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("world"))
    root = world.root
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
    world.config.write_text(yaml.safe_dump({"protocol": protocol, "judges": judges, "batch_size": 5}))
    world.make_run(world.run, seed=0)
    return world


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Features lie in a cache of these tests, also for what fixtures of a wide scope evaluate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
