"""Validation while training judges with the leaderboard's judges, and refuses what they cannot judge."""

from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch

from callbacks.validation import ValidationScores
from contracts.errors import LikenessError
from contracts.prompts import plain_prompt
from tests.helpers.tiny import SIDE, tiny_clip, tiny_faces

DARK = 5  # the tiny detector finds nothing there


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> ValidationScores:
    root: Path = tmp_path_factory.mktemp("judges")
    made = ValidationScores(str(tiny_faces(root / "faces")), str(tiny_clip(root / "clip")))
    made.setup(None, None, "fit")  # type: ignore[arg-type]
    return made


def start(scores: ValidationScores, levels: dict[str, list[int]], nouns: dict[str, str] | None = None) -> None:
    """Begin to fit with grey held-out photos of these levels by subject; all are of class person, or as ``nouns``."""
    photos = {s: np.stack([np.full((SIDE, SIDE, 3), v, np.uint8) for v in grey]) for s, grey in levels.items()}
    nouns = nouns or dict.fromkeys(photos, "person")
    trainer = SimpleNamespace(datamodule=SimpleNamespace(validation_held_out=lambda: photos, class_nouns=nouns))
    scores.on_fit_start(trainer, L.LightningModule())  # type: ignore[arg-type]


def test_a_subject_without_a_face_is_named_before_the_first_step(scores: ValidationScores) -> None:
    message = "no held-out photo of validation subject s2 shows a face"
    with pytest.raises(LikenessError, match=message) as error:
        start(scores, {"s1": [90, 200], "s2": [DARK, DARK]})
    assert "\n" not in str(error.value)


def test_an_object_is_judged_by_its_prompt_and_has_no_identity(scores: ValidationScores) -> None:
    start(scores, {"s1": [90, 200], "h1": [DARK, DARK]}, {"s1": "person", "h1": "hat"})
    images = torch.full((2, SIDE, SIDE, 3), 120, dtype=torch.uint8)
    prompts = ("a photo of a <subject>",) * 2
    logged: dict[str, torch.Tensor] = {}
    module = SimpleNamespace(device=torch.device("cpu"), log_dict=lambda values, **_: logged.update(values))
    trainer = SimpleNamespace(logger=None)
    for subjects in (("s1", "h1"), ("s1", "s1")):
        batch = SimpleNamespace(subjects=subjects, prompts=prompts, request_ids=("a.v00.00", "b.v00.00"))
        scores.on_validation_epoch_start(None, None)  # type: ignore[arg-type]
        scores.on_validation_batch_end(None, module, images, batch, 0)  # type: ignore[arg-type]
        scores.on_validation_epoch_end(trainer, module)  # type: ignore[arg-type]
        if "h1" in subjects:
            beside_an_object = dict(logged)
    assert beside_an_object["val/identity_misses_zero"] == logged["val/identity_misses_zero"], "of s1's image alone"
    assert beside_an_object["val/clip_t"] != logged["val/clip_t"], "a hat is read as a hat"
    start(scores, {"h1": [DARK]}, {"h1": "hat"})
    logged.clear()
    scores.on_validation_epoch_start(None, None)  # type: ignore[arg-type]
    batch = SimpleNamespace(subjects=("h1",), prompts=prompts[:1], request_ids=("h1.v00.00",))
    scores.on_validation_batch_end(None, module, images[:1], batch, 0)  # type: ignore[arg-type]
    scores.on_validation_epoch_end(trainer, module)  # type: ignore[arg-type]
    assert set(logged) == {"val/clip_t"}


def test_photos_without_a_face_are_left_out_of_a_gallery(scores: ValidationScores) -> None:
    start(scores, {"s1": [90, DARK, 200]})
    mixed = scores._galleries["s1"]
    start(scores, {"s1": [90, 200]})
    assert torch.isfinite(mixed).all() and torch.equal(mixed, scores._galleries["s1"])


def test_the_judge_reads_what_the_leaderboards_judge_reads(scores: ValidationScores) -> None:
    start(scores, {"s1": [90, 200]})
    images = torch.full((1, SIDE, SIDE, 3), 120, dtype=torch.uint8)
    prompt = "a  photo of a <subject> , on a beach"
    batch = SimpleNamespace(subjects=("s1",), prompts=(prompt,), request_ids=("s1.v00.00",))
    scores.on_validation_epoch_start(None, None)  # type: ignore[arg-type]
    scores.on_validation_batch_end(None, L.LightningModule(), images, batch, 0)  # type: ignore[arg-type]
    seen = scores._judges.observe(images.numpy())
    ((expected,), _) = scores._judges.fit(seen, [plain_prompt(prompt, "s1", {"s1": "person"})])
    assert float(scores._clip_t.compute()) == pytest.approx(float(expected), abs=1e-6)
