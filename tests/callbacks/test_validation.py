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
from contracts.records import Request
from contracts.settings import JudgeSettings
from metrics.gallery import SubjectPhotos
from metrics.judges import JudgedImages
from metrics.registry import METRICS
from pocket.tiny.components import SIDE, tiny_clip, tiny_faces

DARK = 5  # the tiny detector finds nothing there


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> ValidationScores:
    root: Path = tmp_path_factory.mktemp("judges")
    made = ValidationScores(JudgeSettings(str(tiny_faces(root / "faces")), str(tiny_clip(root / "clip"))))
    made.setup(None, None, "fit")  # type: ignore[arg-type]
    return made


def start(
    scores: ValidationScores,
    levels: dict[str, list[int]],
    nouns: dict[str, str] | None = None,
    prompt: str = "a photo of a <subject>",
) -> None:
    """Begin to fit with grey held-out photos of these levels by subject; all are of class person, or as ``nouns``."""
    nouns = nouns or dict.fromkeys(levels, "person")
    data = SimpleNamespace(
        validation_photos=lambda: [photos(s, nouns[s], grey) for s, grey in levels.items()],
        validation_requests=lambda: [Request(s, "v00", prompt, "validation", i) for s in levels for i in range(2)],
        class_nouns=nouns,
    )
    scores.on_fit_start(SimpleNamespace(datamodule=data), L.LightningModule())  # type: ignore[arg-type]


def photos(name: str, noun: str, held_out: list[int]) -> SubjectPhotos:
    """Grey photos of one level each; the reference is of the first held-out photo's level."""
    pixels = np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in (held_out[0], *held_out)])
    count = len(pixels)
    poses = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    places = np.arange(count) % 2
    texts = ("in a forest",) * count
    return SubjectPhotos(
        name, noun, pixels[0], pixels[1:], poses, places, texts, has_face=noun != "hat", clothes=places
    )


def validate(scores: ValidationScores, requests: list[str], levels: list[int]) -> dict[str, torch.Tensor]:
    """What is logged of grey images of these levels, the answers to ``requests``."""
    logged: dict[str, torch.Tensor] = {}
    module = SimpleNamespace(device=torch.device("cpu"), log=lambda name, value, **_: logged.update({name: value}))
    images = torch.stack([torch.full((SIDE, SIDE, 3), level, dtype=torch.uint8) for level in levels])
    scores.on_validation_epoch_start(None, None)  # type: ignore[arg-type]
    batch = SimpleNamespace(request_ids=tuple(requests))
    scores.on_validation_batch_end(None, module, images, batch, 0)  # type: ignore[arg-type]
    scores.on_validation_epoch_end(SimpleNamespace(loggers=[]), module)  # type: ignore[arg-type]
    return logged


def test_a_subject_without_a_face_is_named_before_the_first_step(scores: ValidationScores) -> None:
    message = "no held-out photo of validation subject s2 shows a face"
    with pytest.raises(LikenessError, match=message) as error:
        start(scores, {"s1": [90, 200], "s2": [DARK, DARK]})
    assert "\n" not in str(error.value)


def test_a_run_without_validation_has_nothing_to_judge(scores: ValidationScores) -> None:
    start(scores, {})


def test_an_object_is_judged_by_its_prompt_and_has_no_identity(scores: ValidationScores) -> None:
    start(scores, {"s1": [90, 200], "h1": [DARK, 150]}, {"s1": "person", "h1": "hat"})
    beside_an_object = validate(scores, ["s1.v00.00", "h1.v00.00"], [120, 120])
    alone = validate(scores, ["s1.v00.00", "s1.v00.01"], [120, 120])
    for name in ("identity_misses_zero", "identity_given_detection", "detection_rate"):
        assert beside_an_object[f"val/{name}"] == alone[f"val/{name}"], "of s1's images alone"
    assert beside_an_object["val/clip_t"] != alone["val/clip_t"], "a hat is read as a hat"
    start(scores, {"h1": [DARK]}, {"h1": "hat"})
    of_objects = validate(scores, ["h1.v00.00"], [120])
    assert {"val/clip_t", "val/clip_i", "val/subject_likeness"} <= of_objects.keys()
    assert not any(METRICS[name.removeprefix("val/")].group == "identity" for name in of_objects)


def test_photos_without_a_face_are_left_out_of_a_gallery(scores: ValidationScores) -> None:
    start(scores, {"s1": [90, DARK, 200]})
    mixed = scores._galleries["s1"].mean("faces")
    start(scores, {"s1": [90, 200]})
    assert np.isfinite(mixed).all()
    np.testing.assert_array_equal(mixed, scores._galleries["s1"].mean("faces"))


def test_every_metric_of_single_images_is_logged_as_the_leaderboard_would_score_it(scores: ValidationScores) -> None:
    prompt = "a  photo of a <subject> , on a beach"
    start(scores, {"s1": [90, 200], "s2": [60, 150]}, prompt=prompt)
    logged = validate(scores, ["s1.v00.00", "s2.v00.00", "s2.v00.01"], [120, 80, DARK])
    requests = [scores._requests[name] for name in ("s1.v00.00", "s2.v00.00", "s2.v00.01")]
    images = np.stack([np.full((SIDE, SIDE, 3), level, np.uint8) for level in (120, 80, DARK)])
    galleries = [scores._galleries[request.subject] for request in requests]
    nouns = {"s1": "person", "s2": "person"}
    judged = JudgedImages.judge(scores._judges, images, requests, galleries, nouns)
    assert judged.prompts[0] == plain_prompt(prompt, "s1", nouns)
    lacking = {"samples", "photos", "pair"}
    single = [
        metric
        for metric in METRICS.values()
        if metric.judge in ("faces", "clip") and "people" in metric.kinds and not metric.needs & lacking
    ]
    assert logged.keys() == {f"val/{metric.name}" for metric in single}
    for metric in single:
        expected = float(np.nanmean(metric.rows(judged)))
        assert float(logged[f"val/{metric.name}"]) == pytest.approx(expected, abs=1e-6), metric.name
