"""The measures behind the floors, on cases whose value is known."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from networks.backbone import Backbone, load_backbone
from networks.clip_judge import ClipJudge
from networks.face_analysis import Face, FacePack
from networks.sampler import SamplingSettings
from pocket.models import paths
from pocket.quality import __main__ as quality
from pocket.quality.faces import landmark_errors, parts_of_likeness, true_accept_rate, unseen_photos
from pocket.tiny.components import tiny_base, tiny_clip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(str(tiny_base(tmp_path_factory.mktemp("quality") / "base")))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> ClipJudge:
    return ClipJudge(str(tiny_clip(tmp_path_factory.mktemp("quality") / "clip")))


def test_psnr_is_that_of_the_reconstructions(backbone: Backbone) -> None:
    images = quality.unseen_bank(3).images
    mean = backbone.encode_moments(images)[:, :4]
    back = backbone.decode(mean * backbone.vae.config.scaling_factor).numpy().astype(float)
    expected = [10 * np.log10(255**2 / ((back[i] - images[i]) ** 2).mean()) for i in range(3)]
    assert quality.reconstruction_psnr(backbone, images) == pytest.approx(np.mean(expected))


def test_unseen_subjects_are_the_same_at_every_call() -> None:
    first = quality.unseen_bank(2)
    second = quality.unseen_bank(2)
    assert np.array_equal(first.images, second.images) and first.captions == second.captions
    assert not np.array_equal(first.images[0], first.images[1])


def test_retrieval_counts_captions_whose_own_image_is_best(judge: ClipJudge) -> None:
    bank = quality.unseen_bank(12)
    words, _ = judge.text_features(bank.captions)
    features = judge.image_features(bank.images)
    groups = [(words[first : first + 6] @ features[first : first + 6].T) for first in (0, 6)]
    hits = [float(row.argmax() == i) for scores in groups for i, row in enumerate(scores)]
    assert quality.retrieval(judge, bank.images, bank.captions, group=6) == pytest.approx(np.mean(hits))


def test_own_prompt_is_compared_with_other_prompts(judge: ClipJudge) -> None:
    bank = quality.unseen_bank(8)
    share = quality.own_prompt_is_best(judge, bank.images, bank.captions)
    scores = judge.image_features(bank.images) @ judge.text_features(bank.captions)[0].T
    assert share == pytest.approx((scores.argmax(1) == torch.arange(8)).float().mean().item())


def test_samples_do_not_depend_on_the_batch_size(backbone: Backbone) -> None:
    settings = SamplingSettings("ddim", steps=2)
    prompts = ["a person", "a photo of a person on a beach", "an oil painting"]
    together, pairs = (quality.generate_samples(backbone, prompts, settings, batch) for batch in (16, 2))
    assert together.shape == (3, 64, 64, 3)
    assert np.abs(together.astype(int) - pairs).max() <= 1


def test_the_probe_set_is_a_grid() -> None:
    images, labels = quality.probe_set(subjects=2)
    assert images.shape == (48, 64, 64, 3)
    assert np.bincount(labels["identity"]).tolist() == [24, 24]
    assert np.bincount(labels["pose"]).tolist() == [6] * 8
    assert labels["background"].max() < 12


def unit(rows: list[list[float]]) -> np.ndarray:
    array = np.array(rows, np.float32)
    return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-9)


def test_accept_rate_of_perfect_and_of_useless_embeddings() -> None:
    subject = np.arange(8) // 2
    perfect = np.eye(4, dtype=np.float32)[subject]
    assert true_accept_rate(perfect, subject) == 1.0
    assert true_accept_rate(np.ones_like(perfect) / 2, subject) == 0.0


def test_a_pair_with_a_missed_face_is_never_accepted() -> None:
    subject = np.arange(8) // 2
    embeddings = np.eye(4, dtype=np.float32)[subject]
    embeddings[0] = 0
    assert true_accept_rate(embeddings, subject) == pytest.approx(3 / 4)


def test_the_threshold_lets_the_given_share_of_strangers_pass() -> None:
    subject = np.array([0, 0, 1, 1])
    angles = np.array([0.0, 0.5, 0.8, 2.0])
    embeddings = unit([[float(np.cos(a)), float(np.sin(a))] for a in angles])
    strangers = sorted(float(embeddings[i] @ embeddings[j]) for i in (0, 1) for j in (2, 3))
    same = [float(embeddings[0] @ embeddings[1]), float(embeddings[2] @ embeddings[3])]
    assert true_accept_rate(embeddings, subject, 1e-3) == np.mean([s > strangers[-1] for s in same]) == 0.0
    assert true_accept_rate(embeddings, subject, 0.5) == np.mean([s > strangers[2] for s in same]) == 0.5


def test_landmark_errors_are_in_face_widths() -> None:
    renders, subject = unseen_photos(2, accessories=False)
    assert subject.tolist() == [0, 0]
    width = renders[0].bbox[2] - renders[0].bbox[0]
    moved = renders[0].landmarks + np.array([0.1 * width, 0.0], np.float32)
    face = Face(renders[0].bbox, moved, 0.9, np.zeros(512, np.float32), "plain")
    errors = landmark_errors(renders, [[face], []])
    assert errors[0] == pytest.approx(0.1, rel=1e-4)
    assert errors[1] == np.inf


def test_likeness_rests_on_colours_and_on_shape() -> None:
    found = parts_of_likeness(FacePack(paths.FACES_B), 12)
    assert found["own"] > max(found["colours"], found["shape"]) > min(found["colours"], found["shape"]) > found["other"]


def test_a_judge_of_colours_alone_is_told_by_exchanged_colours() -> None:
    class Colours:
        def judge(self, images: np.ndarray) -> SimpleNamespace:
            means = images[:, 24:40, 24:40].mean(axis=(1, 2))
            return SimpleNamespace(embeddings=unit(list(means - means.mean(axis=0))))

    found = parts_of_likeness(cast(FacePack, Colours()), 24)
    assert min(found["own"], found["shape"]) > max(found["colours"], found["other"]) + 0.4


def test_noun_attention_focus_leaves_the_backbone_as_it_was(backbone: Backbone) -> None:
    renders, _ = unseen_photos(2, accessories=False)
    latents = torch.zeros(1, *backbone.latent_shape)
    text = backbone.encode_text(["a photo"]).states
    before = backbone.unet(latents, torch.tensor([500]), text).sample
    share, covered = quality.noun_attention_focus(backbone, renders)
    assert torch.equal(backbone.unet(latents, torch.tensor([500]), text).sample, before)
    assert covered == pytest.approx(np.mean([d.mask for d in renders]) / 255) and 0 < share < 1
