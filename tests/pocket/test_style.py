"""The pocket W+ models: views that mean what they say, a training that learns and resumes, measures on known cases."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from networks.face_alignment import similarity
from networks.face_analysis import FacePack
from networks.wplus import load_wplus
from pocket.models import style
from pocket.models.bank import Bank, collect, render_bank
from pocket.models.paths import FACES_B, STYLE
from pocket.models.recogniser import Recogniser
from pocket.models.style import StyleAutoencoder, export_style, fit_mapping, move_mean, reconstruction_loss, train_style
from pocket.models.style_views import AlignedFaces, bank_masks, recogniser_crops, recolour, warp, warps
from pocket.models.vae import to_pixels
from pocket.quality import style as quality_style
from pocket.render.renderer import SIDE
from pocket.tiny.components import tiny_faces, tiny_wplus


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Three subjects under the keys of the training bank."""
    rows = [{**row, "subject": i} for i in range(3) for row in render_bank(f"bank/{i}", 1, 3)]
    return collect(rows)


@pytest.fixture(scope="module")
def faces(bank: Bank, tmp_path_factory: pytest.TempPathFactory) -> AlignedFaces:
    return AlignedFaces(bank, bank_masks(bank, tmp_path_factory.mktemp("style")), 64)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "CHANNELS", (8, 8, 8, 8, 8))
    monkeypatch.setattr(style, "BLOCKS", ((4, 1), (8, 1), (8, 1), (8, 1)))


def test_masks_belong_to_the_banks_images(bank: Bank, faces: AlignedFaces) -> None:
    """Outside the mask lies the background alone, so images of the same background agree there and only there."""
    assert faces.masks.shape == (3, 2, SIDE, SIDE) and faces.shots == 3
    for subject in range(3):
        for shot in range(2):
            x0, y0, x1, y1 = bank.boxes[3 * subject + shot].round().astype(int)
            inside = faces.masks[subject, shot, max(y0, 0) : y1, max(x0, 0) : x1]
            assert (inside > 0).mean() > 0.8 and 0.1 < (faces.masks[subject, shot] > 0).mean() < 0.95


def test_every_second_face_stands_before_white(faces: AlignedFaces) -> None:
    crops, landmarks = faces.draw(12, np.random.default_rng(0))
    again = faces.draw(12, np.random.default_rng(0))
    np.testing.assert_array_equal(crops, again[0])
    np.testing.assert_array_equal(landmarks, again[1])
    assert crops.shape == (12, 64, 64, 3)
    white = (crops == 255).all(axis=3).mean(axis=(1, 2))
    assert white[1::2].min() > 0.05 and white[1::2].mean() > white[::2].mean() + 0.05


def test_recolouring_moves_nothing_and_keeps_grey_grey(faces: AlignedFaces) -> None:
    x = to_pixels(faces.draw(4, np.random.default_rng(1))[0])
    y = recolour(x, np.random.default_rng(0))
    assert (x - y).abs().mean() > 0.05 and y.abs().max() <= 1
    image, other = (((v[0] + 1) * 127.5).byte().permute(1, 2, 0).numpy() for v in (x, y))
    assert quality_style.layout_change(image, other) < 0.3
    flat = recolour(torch.zeros(2, 3, 4, 4), np.random.default_rng(0))
    torch.testing.assert_close(flat, flat[:, :1, :1, :1].expand_as(flat))


def test_warping_mirrors_turns_and_leaves_colours(faces: AlignedFaces) -> None:
    x = to_pixels(faces.draw(2, np.random.default_rng(2))[0])
    identity = torch.eye(2, 3).expand(2, -1, -1)
    torch.testing.assert_close(warp(x, identity), x, atol=1e-4, rtol=0)
    mirror = identity * torch.tensor([[-1.0], [1.0]])
    torch.testing.assert_close(warp(x, mirror), x.flip(3), atol=1e-4, rtol=0)
    maps = warps(64, np.random.default_rng(0))
    determinant = torch.linalg.det(maps[:, :, :2])
    assert (determinant < 0).float().mean() == pytest.approx(0.5, abs=0.25)
    assert determinant.abs().min() > 0.75 and determinant.abs().max() < 1.3


def test_loss_is_zero_for_equal_images_and_grows_with_blur(faces: AlignedFaces) -> None:
    x = to_pixels(faces.draw(2, np.random.default_rng(3))[0])
    assert reconstruction_loss(x + 1e-6, x)[0] < 1e-4
    assert reconstruction_loss(torch.nn.functional.avg_pool2d(x, 5, 1, 2), x)[0] > 0.05


def test_a_recogniser_gets_its_crop_by_the_landmarks(faces: AlignedFaces) -> None:
    """As OpenCV cuts it, the frame aside, and with a gradient to the image."""
    crops, landmarks = faces.draw(6, np.random.default_rng(5))
    x = to_pixels(crops).requires_grad_()
    cut = recogniser_crops(x, landmarks)
    for i in range(6):
        reference = cv2.warpAffine(crops[i], similarity(landmarks[i]), (112, 112)).astype(np.float32) / 127.5 - 1
        inside = cv2.warpAffine(np.ones((64, 64), np.uint8), similarity(landmarks[i]), (112, 112)) > 0
        apart = np.abs(cut[i].detach().permute(1, 2, 0).numpy() - reference)[inside]
        assert np.percentile(apart, 95) < 0.05 and inside.mean() > 0.9
    cut.sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_identity_loss_is_zero_for_the_same_face_only(faces: AlignedFaces) -> None:
    crops, landmarks = faces.draw(2, np.random.default_rng(6))
    x = to_pixels(crops)
    recogniser = Recogniser((8, 8, 8), (0, 0, 0)).eval().requires_grad_(False)
    assert style.identity_loss(recogniser, x, x, landmarks) == pytest.approx(0, abs=1e-5)
    assert style.identity_loss(recogniser, x.flip(0), x, landmarks) > 1e-4  # small: the network is random


@pytest.mark.usefixtures("narrow")
def test_training_learns_and_a_stopped_run_goes_on(bank: Bank, tmp_path: Path) -> None:
    recogniser = Recogniser((8, 8, 8), (0, 0, 0))
    unbroken = train_style(bank, tmp_path / "a", recogniser, steps=6, identity_steps=(2, 3), batch=4)
    fit = style.fit
    stops = {"style.pt": 3, "style_identity_0.pt": 1, "style_identity_1.pt": 2}

    def stopped(*arguments: Any, **more: Any) -> None:
        fit(*arguments, **more, until=stops[arguments[4].name])
        raise InterruptedError

    for phase in tuple(stops):  # one stop in each
        with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
            patch.setattr(style, "fit", lambda *a, **k: (stopped if a[4].name in stops else fit)(*a, **k))
            train_style(bank, tmp_path / "b", recogniser, steps=6, identity_steps=(2, 3), batch=4)
        stops.pop(phase)
    resumed = train_style(bank, tmp_path / "b", recogniser, steps=6, identity_steps=(2, 3), batch=4)
    torch.manual_seed(style._SEED)
    start = StyleAutoencoder().state_dict()
    for name, value in unbroken.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=0, rtol=0)
    trained = {n for n, p in unbroken.named_parameters() if not torch.equal(p, start[n])}
    assert {n.split(".")[0] for n in trained} == {"encoder", "decoder"}
    assert not [n for n in trained if ".noise." in n or n.startswith("decoder.style.")]


@pytest.mark.usefixtures("narrow")
def test_moving_the_mean_changes_no_code() -> None:
    encoder = StyleAutoencoder().eval().encoder
    images = torch.rand(2, 3, 64, 64)
    before = encoder(images)
    mean = torch.randn(10, style.WIDTH)
    move_mean(encoder, mean)
    torch.testing.assert_close(encoder(images) + mean, before, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("narrow")
def test_the_mapping_network_learns_the_distribution_of_w(tmp_path: Path) -> None:
    decoder = StyleAutoencoder().decoder
    g = torch.Generator().manual_seed(0)
    w = torch.randn(2048, style.WIDTH, generator=g) * torch.linspace(1, 2, style.WIDTH) + 1
    fit_mapping(decoder, w, tmp_path, steps=300, batch=256)
    with torch.inference_mode():
        made = decoder.map(torch.randn(2048, style.WIDTH, generator=g))
    assert ((made.mean(0) - w.mean(0)) / w.std(0)).abs().mean() < 0.15
    assert (made.std(0) / w.std(0) - 1).abs().mean() < 0.25


@pytest.mark.usefixtures("narrow")
def test_what_is_exported_loads_with_the_mean_code_apart(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "fit_mapping", lambda decoder, w, folder: None)
    monkeypatch.setattr(style.mean_code, "__defaults__", (64,))
    model = StyleAutoencoder().eval().requires_grad_(False)
    export_style(model, bank, tmp_path / "work", tmp_path / "style")
    wplus = load_wplus(str(tmp_path / "style"))
    crops = AlignedFaces(bank, bank_masks(bank, tmp_path / "work"), 64).draw(64, np.random.default_rng((51, 1, 0)))[0]
    torch.testing.assert_close(wplus.encode(crops).mean(dim=0), wplus.latent_avg, atol=5e-2, rtol=5e-2)


def test_psnr_of_a_known_error() -> None:
    a = np.full((2, 8, 8, 3), 100, np.uint8)
    assert quality_style.psnr(a, a + np.uint8(10)) == pytest.approx(10 * np.log10(255**2 / 100))


def test_layout_and_colour_changes_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    a = np.kron(rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    turned = np.ascontiguousarray(np.rot90(a))
    faded = (a * 0.6).astype(np.uint8)
    assert quality_style.layout_change(a, faded) < 0.02 < 0.3 < quality_style.layout_change(a, turned)
    assert quality_style.colour_change(a, turned) == 0 < 0.1 < quality_style.colour_change(a, faded)


def test_the_rows_of_the_report(tmp_path: Path) -> None:
    rows = quality_style.style_floors(tiny_wplus(tmp_path / "style"), tiny_faces(tmp_path / "faces"), n=50)
    assert len(rows) == 6 and all(np.isfinite(value) for _, value, _, _ in rows)
    assert [name for name, value, floor, holds in rows if holds != (value >= floor)] == []


def test_fine_rows_must_change_more_colour_than_both_other_levels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"coarse": [0.3, 0.01], "middle": [0.2, 0.05], "fine": [0.1, 0.03]}
    monkeypatch.setattr(quality_style, "mixing_changes", lambda *_: changes)
    rows = quality_style.style_floors(tiny_wplus(tmp_path / "style"), tiny_faces(tmp_path / "faces"), n=50)
    assert [row[1:] for row in rows[-2:]] == [(0.3, 0.1, True), (0.03, 0.05, False)]


def test_the_shipped_models_hold_their_floors() -> None:
    """All but one at 50 faces too; the own background's 22 dB are the mean of 1,000, whose first 50 have 21.7."""
    rows = {name: (value, floor, holds) for name, value, floor, holds in quality_style.style_floors(STYLE, FACES_B, 50)}
    value, floor, _ = rows.pop("W+ reconstruction, PSNR in dB (own background)")
    assert value > floor - 0.5
    assert [name for name, (_, _, holds) in rows.items() if not holds] == []


def test_similarity_is_to_the_own_original_and_to_other_people(tmp_path: Path) -> None:
    pack = FacePack(tiny_faces(tmp_path / "faces"))
    faces, subject = quality_style.unseen_faces(15, 64, background=True)
    own, others = quality_style.similarities(pack, faces, faces, subject)
    assert own == pytest.approx(1, abs=1e-4) and others < own
