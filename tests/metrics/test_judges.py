"""The judges against the libraries behind them, on the same images; and what an image without a face gives."""

import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torchmetrics.image.kid import KernelInceptionDistance
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from contracts.records import Request
from metrics.base import Metric
from metrics.functional.identity import gallery_mean
from metrics.functional.kid import kernel_distance
from metrics.gallery import Gallery, SubjectPhotos
from metrics.judges import JudgedImages, Judges, Observation, make_galleries
from metrics.regions import TIGHT, WIDE, background_only, person_only, person_region
from metrics.registry import METRICS
from pocket.models.paths import CLIP, DET_SIZE, FACES_A, FACES_B
from pocket.render.dataset import clothes_class
from pocket.render.factors import BACKGROUNDS, POSES, draw_shot, draw_subject
from pocket.render.renderer import render
from pocket.tiny.components import random_lpips, tiny_vit

PEOPLE, PHOTOS = 2, 4
TEXTS = ["a photo of a person, on a beach", "a pencil sketch of a person"]


def photos(person: int) -> SubjectPhotos:
    shots = [
        draw_shot(f"judges/{person}/{i}", POSES[i], BACKGROUNDS[(person + i) % 12], "photo", accessories=False)
        for i in range(1 + PHOTOS)
    ]
    images = np.stack([render(draw_subject(f"judges/{person}"), shot).image for shot in shots])
    poses = np.array([(shot.yaw, shot.pitch, shot.roll) for shot in shots], np.float32)
    ids = np.array([BACKGROUNDS.index(shot.background) for shot in shots])
    worn = np.array([clothes_class(shot) for shot in shots])
    known = (poses, ids, ("",) * len(shots))
    return SubjectPhotos(f"s{person}", "person", images[0], images[1:], *known, clothes=worn)


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges(str(FACES_B), str(CLIP), str(FACES_A), det_size=DET_SIZE)


@pytest.fixture(scope="module")
def galleries(judges: Judges) -> list[Gallery]:
    people = [photos(person) for person in range(PEOPLE)]
    return list(make_galleries(people, {person.id: judges.observe_photos(person) for person in people}).values())


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """A new picture of each person, and one without a face."""
    new = [
        render(draw_subject(f"judges/{p}"), draw_shot(f"new/{p}", POSES[p], "snow", "photo", accessories=False)).image
        for p in range(PEOPLE)
    ]
    return np.stack([*new, np.full_like(new[0], 128)])


def scores_of(
    judges: Judges,
    images: NDArray[np.uint8],
    galleries: list[Gallery],
    texts: list[str] | None = None,
) -> dict[str, torch.Tensor]:
    """The score of every image (B,) by each metric of single images of people that has its judge here."""
    texts = texts or [""] * len(images)
    requests = [Request(f"s{i}", "p", text, "scene", 0) for i, text in enumerate(texts)]
    nouns = {request.subject: "person" for request in requests}
    judged = JudgedImages.judge(judges, images, requests, galleries, nouns)
    return {
        name: metric.score(judged)
        for name, metric in METRICS.items()
        if _measured(metric, judges) and not {"samples", "pair"} & metric.needs
    }


def _measured(metric: Metric, judges: Judges) -> bool:
    there = {"faces": True, "clip": True, "second_faces": judges.second, "image_backbone": judges.image}
    return not metric.feature and "people" in metric.kinds and bool(there.get(metric.judge, judges.lpips))


@pytest.fixture(scope="module")
def seen(judges: Judges, images: NDArray[np.uint8]) -> Observation:
    return judges.observe(images)


def test_identity_is_insightfaces_own(judges: Judges, galleries: list[Gallery], images: NDArray[np.uint8]) -> None:
    from insightface.app import FaceAnalysis

    app = FaceAnalysis(name=str(FACES_B), providers=["CPUExecutionProvider"])
    app.prepare(ctx_id=0, det_size=(DET_SIZE, DET_SIZE))

    def embed(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        faces = app.get(np.ascontiguousarray(image[..., ::-1]))
        return max(faces, key=lambda f: np.prod(f.bbox[2:] - f.bbox[:2])).normed_embedding

    scores = scores_of(judges, images, [*galleries, galleries[0]])
    for person in range(PEOPLE):
        face, known = embed(images[person]), photos(person)
        expected = float(np.mean([face @ embed(photo) for photo in known.held_out]))
        assert float(scores["identity_given_detection"][person]) == pytest.approx(expected, abs=1e-4)
        assert float(scores["identity_to_reference"][person]) == pytest.approx(face @ embed(known.reference), abs=1e-4)


def test_clip_t_and_clip_i_are_those_of_transformers(
    judges: Judges, galleries: list[Gallery], images: NDArray[np.uint8]
) -> None:
    model, tokenizer = CLIPModel.from_pretrained(CLIP).eval(), CLIPTokenizer.from_pretrained(CLIP)
    processor = CLIPImageProcessorPil.from_pretrained(CLIP)
    everything = np.concatenate([images[:2], photos(0).held_out])
    with torch.no_grad():
        out = model(
            **tokenizer(TEXTS, padding=True, return_tensors="pt"),
            pixel_values=processor(list(everything), return_tensors="pt")["pixel_values"],
        )
    expected = (out.text_embeds @ out.image_embeds.T).numpy()
    scores = scores_of(judges, images, [*galleries, galleries[0]], [*TEXTS, TEXTS[0]])
    assert scores["clip_t"][:2].tolist() == pytest.approx([expected[0, 0], expected[1, 1]], abs=1e-4)
    alike = scores["clip_i"]
    assert float(alike[0]) == pytest.approx(float((out.image_embeds[2:] @ out.image_embeds[0]).mean()), abs=1e-4)
    neutral = tokenizer(["a photo of a person"], return_tensors="pt")
    with torch.no_grad():
        plain = F.normalize(model.get_text_features(**neutral).pooler_output, dim=-1)[0]
    margin = scores["edit_margin"]
    without = float(out.image_embeds[0] @ plain)
    assert float(margin[0]) == pytest.approx(float(expected[0, 0]) - without, abs=1e-4)


class StockClip(torch.nn.Module):
    """Unit image embeddings of transformers' own CLIP, in the form in which torchmetrics takes a network."""

    def __init__(self) -> None:
        super().__init__()
        self.model = CLIPModel.from_pretrained(CLIP).eval()
        self.processor = CLIPImageProcessorPil.from_pretrained(CLIP)
        self.num_features = self.model.config.projection_dim

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Features (B, D) of uint8 pictures (B, 3, H, W)."""
        found = list(pictures.permute(0, 2, 3, 1).numpy())
        features = self.model.get_image_features(**self.processor(found, return_tensors="pt")).pooler_output
        return torch.nn.functional.normalize(features, dim=-1)


def test_kid_is_that_of_torchmetrics_on_the_same_pictures(judges: Judges, images: NDArray[np.uint8]) -> None:
    real = np.concatenate([photos(person).photos for person in range(PEOPLE)])
    drawn = np.concatenate([images, real[:, ::-1], real[:, :, ::-1]])[: len(real)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics warns that it keeps all features
        stock = KernelInceptionDistance(feature=StockClip(), subsets=1, subset_size=len(real))
    stock.update(torch.from_numpy(real).permute(0, 3, 1, 2), real=True)
    stock.update(torch.from_numpy(drawn.copy()).permute(0, 3, 1, 2), real=False)
    expected = float(stock.compute()[0])
    seen, known = (torch.from_numpy(judges.observe(p).features["clip"]) for p in (drawn, real))
    assert float(kernel_distance(seen, known)) == pytest.approx(expected, abs=1e-4)
    assert abs(expected) > 1e-3, "the tolerance is small against the value"


def test_every_torch_network_judges_in_full_precision(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    """A GPU rounds convolutions to TF32 by default and products where it is told to, in the text tower as in others."""
    judges = Judges(
        str(FACES_B), str(CLIP), None, str(tiny_vit(tmp_path / "vit")), str(random_lpips(tmp_path / "lpips"))
    )
    assert judges.image and judges.lpips
    networks = {
        "images": judges.clip.model.vision_model,
        "texts": judges.clip.model.text_model,
        "image": judges.image,
        "lpips": judges.lpips,
    }
    rounded: dict[str, list[tuple[bool, bool]]] = {name: [] for name in networks}

    def flags() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    for name, network in networks.items():
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                layer.register_forward_pre_hook(lambda *_, name=name: rounded[name].append(flags()))
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert flags() == (True, True), "what the judges must switch off is on here"
        requests = [Request("s0", "p", text, "scene", i) for i, text in enumerate([*TEXTS, ""])]
        judged = JudgedImages.judge(judges, images, requests, [], {"s0": "person"})
        for name in ("clip_t", "edit_margin", "lpips_diversity"):
            METRICS[name].score(judged)
        assert flags() == (True, True)
    finally:
        torch.set_float32_matmul_precision(kept)
    assert {name: set(found) for name, found in rounded.items()} == {name: {(False, False)} for name in networks}


def test_an_image_without_a_face_has_no_score_that_needs_one(
    judges: Judges, images: NDArray[np.uint8], galleries: list[Gallery]
) -> None:
    scores = scores_of(judges, images, [*galleries, galleries[0]])
    counts_a_miss = {"detection_rate", "identity_misses_zero", "retrieval_top1", "retrieval_map"}
    for name, values in scores.items():
        whole = METRICS[name].group in ("text", "image") and not name.endswith("_foreground")
        assert bool(values[2].isnan()) is not (whole or name in counts_a_miss), name
        assert not values[:2].isnan().any(), name
    assert all(float(scores[name][2]) == 0 for name in counts_a_miss)


def test_a_prompt_that_asks_for_the_references_place_does_not_count_as_leakage(
    judges: Judges, images: NDArray[np.uint8], galleries: list[Gallery]
) -> None:
    mine = [replace(galleries[0], background_text="on a beach")] * 3
    texts = ["a person, on a beach", "a person, in the snow", "x"]
    found = scores_of(judges, images, mine, texts)["background_copied"]
    assert found.isnan().tolist() == [True, False, True]


def test_clothes_that_a_prompt_asks_for_have_not_come_over(judges: Judges, galleries: list[Gallery]) -> None:
    """The reference itself wears what it wears."""
    mine = [replace(galleries[0], clothes_text="in a red shirt")] * 2
    reference = np.stack([photos(0).reference] * 2)
    found = scores_of(judges, reference, mine, ["a person, in a red shirt", "a person, in a blue shirt"])
    assert found["clothes_copied"].isnan().tolist() == [True, False] and found["clothes_copied"][1] == 1.0
    unknown = scores_of(judges, reference, [replace(galleries[0], clothes=-1)] * 2, ["x", "y"])
    assert unknown["clothes_copied"].isnan().all()


def test_the_reference_itself_leaks_everything_and_is_a_copy(judges: Judges, galleries: list[Gallery]) -> None:
    scores = scores_of(judges, np.stack([photos(person).reference for person in range(PEOPLE)]), galleries)
    np.testing.assert_allclose(scores["copy_paste"], 1.0, atol=1e-3)
    assert (scores["background_leakage"] > 0.05).all()
    assert (scores["background_copied"] == 1.0).all()
    assert (scores["pose_leakage"] > 0.6).all()


def test_another_person_is_less_alike_to_both_networks(
    judges: Judges, images: NDArray[np.uint8], galleries: list[Gallery]
) -> None:
    own = scores_of(judges, images, [*galleries, galleries[0]])
    other = scores_of(judges, images, [*galleries[::-1], galleries[0]])
    for name in ("identity_given_detection", "identity_second_opinion"):
        assert (own[name][:2] > other[name][:2] + 0.1).all(), name


def test_a_picture_written_anew_is_the_same_face_and_one_with_turned_colours_is_not(judges: Judges) -> None:
    """Mistakes of channel order or range do not crash; they show here, in both networks."""
    pictures = np.concatenate([photos(person).photos[:2] for person in range(PEOPLE)])
    anew = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=98, subsampling=0)
        anew.append(np.asarray(Image.open(file)))
    first, again, turned = (judges.observe(np.stack(list(p))).features for p in (pictures, anew, pictures[..., ::-1]))
    for network in ("faces", "second"):
        assert ((first[network] * again[network]).sum(axis=1) > 0.99).all(), network
        assert (first[network] * turned[network]).sum(axis=1).mean() < 0.7, network
        assert (first[network][:2] @ first[network][2:].T).max() < 0.5, network


def test_the_mean_over_photos_is_the_gallery_mean(galleries: list[Gallery]) -> None:
    rows = galleries[0].held_out["faces"]
    np.testing.assert_allclose(galleries[0].mean("faces"), gallery_mean(torch.from_numpy(rows)).numpy(), atol=1e-6)


def test_person_and_background_regions_fit_the_masks() -> None:
    overlaps, held = [], []
    for i in range(40):
        picture = render(draw_subject(f"region/{i}"), draw_shot(f"region/{i}", POSES[i % 8]))
        mask = picture.mask > 0
        tight, wide = (person_region(picture.bbox, 64, 64, region) for region in (TIGHT, WIDE))
        overlaps.append((tight & mask).sum() / (tight | mask).sum())
        held.append((wide & mask).sum() / mask.sum())
        inside, outside = person_only(picture.image, picture.bbox), background_only(picture.image, picture.bbox)
        assert (inside[~tight] == 128).all() and (inside[tight] == picture.image[tight]).all()
        assert (outside[wide] == 128).all() and (outside[~wide] == picture.image[~wide]).all()
    assert np.mean(overlaps) > 0.70
    assert np.mean(held) > 0.98
