"""A world in miniature: data and models of the smallest size, and what the commands must be told about them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from datamodules.schema import features
from pocket.render.dataset import Grid, rows_of
from pocket.tiny.components import SIDE, TEXT_WIDTH, tiny_base, tiny_clip, tiny_faces, tiny_wplus

GRID = Grid(subjects=40, poses=3, backgrounds=4)
TRAINING = range(8)
VALIDATION = range(33, 35)
TEST = range(36, 39)
ENROLMENT_STEPS = 6
PER_SUBJECT: dict[str, dict[str, object]] = {
    "SefiIDE": {"model.attention_side": 8, "model.tokens": "free"},
    "DreamBoothLoRA": {"model.class_images": 3, "model.class_steps": 2, "model.class_guidance": 3.0},
}
"""What makes the methods that optimise per subject small."""


@dataclass(frozen=True)
class TinyWorld:
    """Folders of the dataset, the base model, the CLIP, the face pack and the W+ encoder."""

    dataset: Path
    base: Path
    clip: Path
    faces: Path
    wplus: Path
    cache: Path
    prompts: tuple[str, ...] = ("a photo of a <subject>", "a <subject> on a beach", "a <subject>, an oil painting")

    @classmethod
    def make(cls, root: Path) -> "TinyWorld":
        """Render and initialise everything below ``root``."""
        world = cls(
            root / "dataset",
            tiny_base(root / "base"),
            tiny_clip(root / "clip"),
            tiny_faces(root / "faces"),
            tiny_wplus(root / "wplus"),
            root / "cache",
        )
        world.dataset.mkdir()
        for split, subjects in (("train", TRAINING), ("val", VALIDATION), ("test", TEST)):
            rows = [row for subject in subjects for row in rows_of(subject, GRID)]
            Dataset.from_list(rows, features=features()).to_parquet(world.dataset / f"{split}.parquet")
        return world

    def data(self) -> dict:
        """Arguments of the DataModule."""
        return {
            "source": str(self.dataset),
            "backbone": str(self.base),
            "features": {"clip": {"encoder": str(self.clip)}},
            "resolution": SIDE,
            "batch_size": 4,
            "cache_dir": str(self.cache),
        }

    def wplus_feature(self, **changes: object) -> dict:
        """``data.features`` of PIDiff."""
        return {"wplus": {"encoder": str(self.wplus), "detector": None, **changes}}

    def arguments(self, output: Path, /, **changes: object) -> list[str]:
        """Arguments of ``train.main`` for SpotDiff; ``changes`` are keys with ``__`` for the dots."""
        settings: dict[str, object] = {
            "output": output,
            "model": "lightning_modules.SpotDiff",
            "model.backbone": self.base,
            "model.image_width": TEXT_WIDTH,
            "model.hidden": 16,
            "model.warmup_steps": 2,
            "model.learning_rate": 1e-3,
            **{f"data.{name}": value for name, value in self.data().items()},
            "data.first_stage": stage("experts.ExpertStage", steps=2, batch_size=8),
            "data.validation.subjects": 1,
            "data.validation.batch_size": 2,
            "trainer.check_val_every_n_epoch": "null",
            "trainer.accelerator": "cpu",
            "trainer.devices": 1,
            "trainer.precision": "32-true",
            "trainer.max_steps": 6,
            "trainer.num_sanity_val_steps": 0,
            "trainer.log_every_n_steps": 2,
            "trainer.enable_progress_bar": False,
            "trainer.enable_model_summary": False,
            "checkpoint_every": 2,
        }
        settings |= {key.replace("__", "."): value for key, value in changes.items()}
        return [f"--{key}={_text(value)}" for key, value in settings.items()]

    def sefi_ide(self, output: Path, subjects: Sequence[str] | None = None, /, **changes: object) -> list[str]:
        """Arguments of ``train.main`` for SeFi-IDE."""
        return self.enrolment("SefiIDE", output, subjects, **changes)

    def enrolment(
        self, method: str, output: Path, subjects: Sequence[str] | None = None, /, **changes: object
    ) -> list[str]:
        """Arguments of ``train.main`` for a method that optimises per subject: six steps of all test ``subjects``, or
        of some."""
        settings: dict[str, object] = {
            "output": output,
            "model": f"lightning_modules.{method}",
            "model.backbone": self.base,
            **PER_SUBJECT.get(method, {}),
            "model.learning_rate": 5e-3,
            "data.source": self.dataset,
            "data.backbone": self.base,
            "data.cache_dir": self.cache,
            "data.resolution": SIDE,
            "data.subjects": "null" if subjects is None else f"[{','.join(subjects)}]",
            "data.enrolment.steps": ENROLMENT_STEPS,
            "data.enrolment.at_once": 16,
            "trainer.accelerator": "cpu",
            "trainer.devices": 1,
            "trainer.max_epochs": 1,
            "trainer.num_sanity_val_steps": 0,
            "trainer.log_every_n_steps": 2,
            "trainer.gradient_clip_val": 0.01,  # low enough to be at work in every step
            "trainer.enable_progress_bar": "false",
            "trainer.enable_model_summary": "false",
            "checkpoint_every": 4,
        }
        settings |= {key.replace("__", "."): value for key, value in changes.items()}
        return [f"--{key}={_text(value)}" for key, value in settings.items()]

    def ip_adapter(self, output: Path, /, **changes: object) -> list[str]:
        """Arguments of ``train.main`` for IP-Adapter, which has no first stage."""
        settings: dict[str, object] = {
            "model": "lightning_modules.IPAdapter",
            "model.image_width": 16,
            "data.features": {"clip_embeds": {"encoder": str(self.clip)}},
            "data.first_stage": "null",
        }
        settings |= {key.replace("__", "."): value for key, value in changes.items()}
        return [given for given in self.arguments(output, **settings) if given.split("=")[0] != "--model.hidden"]

    def ip_adapter_plus(self, output: Path, /, **changes: object) -> list[str]:
        """Arguments of ``train.main`` for IP-Adapter Plus."""
        settings: dict[str, object] = {
            "model": "lightning_modules.IPAdapterPlus",
            "model.image_width": TEXT_WIDTH,
            "model.image_tokens": 17,
            "model.depth": 1,
            "data.features": {"clip_patches": {"encoder": str(self.clip)}},
        }
        return self.ip_adapter(output, **settings | changes)

    def ip_adapter_faceid(self, output: Path, /, **changes: object) -> list[str]:
        """Arguments of ``train.main`` for IP-Adapter FaceID, without a detector: all landmarks are known."""
        settings: dict[str, object] = {
            "model": "lightning_modules.IPAdapterFaceID",
            "model.lora_rank": 2,
            "data.features": self.face_feature(),
        }
        given = self.ip_adapter(output, **settings | changes)
        return [part for part in given if part.split("=")[0] != "--model.image_width"]

    def face_feature(self, **changes: object) -> dict:
        """``data.features`` of IP-Adapter FaceID."""
        return {"face_embedding": {"recogniser": str(self.faces), "detector": None, **changes}}

    def wplus_adapter(self, output: Path, /, **changes: object) -> list[str]:
        """Arguments of ``train.main`` for W+ Adapter, which is PIDiff with the published objective."""
        settings: dict[str, object] = {
            "model.levels": "four",
            "model.localised": False,
            "model.train_query": True,
            "model.disentanglement_weight": 2.0,
            "model.attention_weight": 0.0,
        }
        return self.pidiff(output, **settings | changes)

    def evaluation(self, output: Path, /, **changes: object) -> list[str]:
        """Arguments of ``evaluate.main``: two subjects, three prompts, two samples; without any runs."""
        prompts = output.parent / "prompts.yaml"
        lines = [{"id": f"p{i}", "class": "scene", "text": text} for i, text in enumerate(self.prompts)]
        prompts.write_text(json.dumps({"prompts": lines}), encoding="utf-8")
        settings: dict[str, object] = {
            "output": output,
            "protocol.prompts": prompts,
            "protocol.dataset": self.dataset,
            "protocol.subjects": 2,
            "protocol.samples": 2,
            "protocol.backbone": self.base,
            "protocol.resolution": SIDE,
            "protocol.steps": 2,
            "judges.faces": self.faces,
            "judges.clip": self.clip,
            "batch_size": 4,
        }
        settings |= {key.replace("__", "."): value for key, value in changes.items()}
        return [f"--{key}={_text(value)}" for key, value in settings.items()]

    def pidiff(self, output: Path, /, **changes: object) -> list[str]:
        """Arguments of ``train.main`` for PIDiff: two steps on aligned faces, then whole images."""
        others = {"--model.image_width", "--model.hidden"}
        settings: dict[str, object] = {
            "model": "lightning_modules.PIDiff",
            "model.code_rows": 10,
            "model.code_width": 8,
            "data.features": self.wplus_feature(),
            "data.first_stage": stage("faces.FaceStage", steps=2, texts=["a photo of a person"]),
        }
        settings |= {key.replace("__", "."): value for key, value in changes.items()}
        return [given for given in self.arguments(output, **settings) if given.split("=")[0] not in others]


def stage(name: str, **settings: object) -> dict:
    """``data.first_stage`` of a class of ``datamodules/batches``."""
    return {"class_path": f"datamodules.batches.{name}", "init_args": settings}


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | dict) else str(value)
