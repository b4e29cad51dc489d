"""The face packs: geometry, targets and losses on cases whose answer is known, and the shipped files."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from networks.face_alignment import ARCFACE, similarity
from pocket.models.bank import Bank, collect, render_bank
from pocket.models.detector import (
    STRIDES,
    Detector,
    Votes,
    anchors,
    assign,
    detection_loss,
    overlap,
    spot_loss,
    train_detector,
)
from pocket.models.face_views import CANVAS, Canvases, aligned, mirrored
from pocket.models.faces import export_detector, export_recogniser
from pocket.models.paths import FACES_A, FACES_B
from pocket.models.recogniser import RECIPES, Recogniser, appearance, class_loss, pair_loss, train_recogniser
from pocket.quality.faces import face_floors
from pocket.render.factors import draw_subject


@pytest.fixture(scope="module")
def bank() -> Bank:
    return collect(render_bank("faces-test", 4, 5))


def run(file: Path, image: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": image})


def test_alignment_is_that_of_insightface(bank: Bank) -> None:
    from insightface.utils.face_align import estimate_norm

    for points in bank.landmarks[:5]:
        with pytest.warns(FutureWarning):  # of scikit-image, about a method that insightface calls
            expected = estimate_norm(points)
        np.testing.assert_allclose(similarity(points), expected, atol=1e-3)


def test_an_aligned_crop_has_its_landmarks_on_the_template(bank: Bank) -> None:
    turn = similarity(ARCFACE * 0.4 + 3)
    np.testing.assert_allclose(ARCFACE * 0.4 @ turn[:, :2].T + turn @ [3, 3, 1], ARCFACE, atol=1e-6)
    assert aligned(bank.images[0], bank.landmarks[0], np.random.default_rng(0)).shape == (112, 112, 3)


def test_mirroring_twice_changes_nothing(bank: Bank) -> None:
    once = mirrored(bank.images[0], bank.boxes[0], bank.landmarks[0])
    assert once[2][0, 0] < once[2][1, 0]
    for back, original in zip(mirrored(*once), (bank.images[0], bank.boxes[0], bank.landmarks[0]), strict=True):
        np.testing.assert_allclose(back, original, atol=1e-4)


def test_canvases_are_a_function_of_the_draw_and_hold_up_to_two_faces(bank: Bank) -> None:
    canvases = Canvases(bank.images, bank.boxes.astype(float), bank.landmarks.astype(float))
    rng = np.random.default_rng(0)
    again = np.random.default_rng(0)
    counts = set()
    for _ in range(120):
        image, boxes, marks = canvases.draw(rng)
        np.testing.assert_array_equal(image, canvases.draw(again)[0])
        assert image.shape == (CANVAS, CANVAS, 3) and image.dtype == np.uint8
        assert boxes.shape == (len(marks), 4) and marks.shape[1:] == (5, 2)
        counts.add(len(boxes))
    assert counts == {0, 1, 2}


def test_detector_outputs_are_those_of_scrfd_for_any_size(tmp_path: Path) -> None:
    detector = Detector().eval()
    export_detector(detector, tmp_path / "detection.onnx")
    for height, width in ((128, 128), (64, 160)):
        image = torch.rand(1, 3, height, width) * 2 - 1
        out = run(tmp_path / "detection.onnx", image.numpy())
        cells = [2 * (height // s) * (width // s) for s in STRIDES]
        assert [o.shape for o in out] == [(n, c) for c in (1, 4, 10) for n in cells]
        with torch.no_grad():
            for ours, theirs in zip(detector(image), out, strict=True):
                np.testing.assert_allclose(ours[0].numpy(), theirs, atol=2e-2)


def test_recogniser_takes_any_batch_and_its_scaling_is_recognised(tmp_path: Path) -> None:
    from insightface.model_zoo import ArcFaceONNX

    for name, recipe in RECIPES.items():
        network = Recogniser(recipe.widths, recipe.blocks).eval()
        file = tmp_path / f"{name}.onnx"
        export_recogniser(network, file)
        crops = torch.rand(3, 3, 112, 112) * 2 - 1
        with torch.no_grad():
            np.testing.assert_allclose(run(file, crops.numpy())[0], network(crops).numpy(), atol=2e-2)
        stock = ArcFaceONNX(str(file))
        assert (stock.input_mean, stock.input_std, stock.input_size) == (127.5, 127.5, (112, 112))
        weights = onnx.load(file).graph.initializer
        assert sum(numpy_helper.to_array(w).nbytes for w in weights) < 2.1 * sum(
            p.numel() for p in network.parameters()
        )


def test_votes_point_at_the_landmark() -> None:
    truth = torch.tensor([[50.0, 60.0], [80.0, 58.0], [66.0, 70.0], [55.0, 84.0], [75.0, 86.0]])
    at = torch.arange(32) * 4.0
    cells = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1)
    offsets = (truth[:, None, None] - cells) / 4
    near = (offsets.abs().amax(dim=-1) < 1).float()
    spots = torch.cat([near * 14 - 8, offsets.permute(0, 3, 1, 2).flatten(0, 1)])[None]
    for stride, radius in ((8, 8), (16, 12), (32, 22)):
        voted = Votes(stride, radius)(spots).unflatten(2, (5, 2))[0]
        side = 128 // stride
        row = (64 // stride) * side + 64 // stride
        np.testing.assert_allclose((voted[row] * stride + 64).numpy(), truth.numpy(), atol=0.05)


def test_a_face_is_given_to_anchors_of_its_size_near_its_centre() -> None:
    points, strides, sides = anchors()
    assert len(points) == 2 * (16**2 + 8**2 + 4**2)
    face = torch.tensor([[33.0, 33.0, 97.0, 97.0]])
    index, left_out = assign(face, points, strides, sides)
    chosen = index >= 0
    assert chosen.any() and (sides[chosen] == 64).all() and not (chosen & left_out).any()
    assert ((points[chosen] - 65).abs() < 0.75 * 16).all()
    nobody, nothing = assign(torch.zeros(0, 4), points, strides, sides)
    assert (nobody == -1).all() and not nothing.any()


def test_overlap_of_known_boxes() -> None:
    a, b = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]]), torch.tensor([[1.0, 0, 3, 2], [2, 0, 3, 1]])
    iou, giou = overlap(a, b)
    torch.testing.assert_close(iou, torch.tensor([1 / 3, 0.0]))
    torch.testing.assert_close(giou, torch.tensor([1 / 3, -1 / 3]))


def test_the_detection_loss_is_least_at_the_truth() -> None:
    points, strides, sides = anchors()
    box = torch.tensor([[33.0, 33.0, 97.0, 97.0]])
    marks = ARCFACE_ON_CANVAS
    index, _ = assign(box, points, strides, sides)
    out = torch.zeros(1, len(points), 15)
    out[..., 0] = torch.where(index >= 0, 9.0, -9.0)
    unit = strides[:, None]
    out[0, :, 1:5] = torch.cat([points - box[0, :2], box[0, 2:] - points], dim=1) / unit
    out[0, :, 5:] = ((marks - points[:, None]) / unit[..., None]).flatten(1)
    assert detection_loss(out, [(box, marks)])[0] < 1e-3
    assert detection_loss(out + 0.1, [(box, marks)])[0] > 0.1


ARCFACE_ON_CANVAS = torch.from_numpy(ARCFACE * 0.5 + 36).float()[None]


def test_losses_of_an_image_without_a_face_are_finite() -> None:
    nobody = [(torch.zeros(0, 4), torch.zeros(0, 5, 2))]
    points, _, _ = anchors()
    out = torch.zeros(1, len(points), 15, requires_grad=True)
    spots = torch.zeros(1, 15, 32, 32, requires_grad=True)
    total = detection_loss(out, nobody)[0] + spot_loss(spots, nobody)
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(out.grad).all() and torch.isfinite(spots.grad).all()


def test_pair_and_class_losses_prefer_the_right_answer() -> None:
    good = torch.eye(4).repeat(2, 1)
    bad = torch.cat([torch.eye(4), torch.eye(4).roll(1, 0)])
    assert pair_loss(good, torch.tensor(10.0)) < pair_loss(bad, torch.tensor(10.0))
    who = torch.arange(4)
    right, wrong = (class_loss(torch.eye(4), c, who, 10.0, 0.2) for c in (torch.eye(4), torch.eye(4).roll(1, 0)))
    assert right < wrong
    assert right > class_loss(torch.eye(4), torch.eye(4), who, 10.0, 0.0)


def test_appearance_tells_subjects_apart_and_is_theirs() -> None:
    one = appearance(draw_subject("a"))
    other = appearance(draw_subject("b"))
    assert one.shape == other.shape and np.abs(one).max() < 4
    np.testing.assert_array_equal(one, appearance(draw_subject("a")))
    assert np.abs(one - other).sum() > 1


def test_training_goes_on_where_it_stopped(bank: Bank, tmp_path: Path) -> None:
    detector = train_detector(bank, tmp_path, steps=2, batch=2)
    again = train_detector(bank, tmp_path, steps=2, batch=2)
    for a, b in zip(detector.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for name in RECIPES:
        recogniser = train_recogniser(bank, tmp_path, name, steps=2, batch=6)
        assert recogniser(torch.zeros(1, 3, 112, 112)).shape == (1, 512)


def test_shipped_packs_are_small_and_near_their_floors_on_a_few_renders() -> None:
    size = sum(file.stat().st_size for folder in (FACES_A, FACES_B) for file in folder.glob("*.onnx"))
    assert size <= 9_300_000
    for folder in (FACES_A, FACES_B):
        for name, value, floor, _ in face_floors(folder, n=60):
            assert value >= floor - 0.1, name
