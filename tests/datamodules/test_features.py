"""Features by name: every one of the registry is used as all the others are."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from contracts.errors import LikenessError
from datamodules.features.base import EncoderContext, Feature
from datamodules.features.registry import (
    FEATURES,
    check_settings,
    feature_class,
    known_settings,
    make_features,
    run_features,
)
from datamodules.features.store import Features
from datamodules.index import load_photos, read_photos
from datamodules.processes import Processes
from datamodules.sources import find_shards
from networks.face_analysis import FacePack
from networks.wplus import load_wplus
from pocket.models.paths import BASE, CLIP, FACES_A, STYLE
from pocket.tiny.world import TinyWorld

ROOT = Path(__file__).parents[2]


def settings(world: TinyWorld) -> dict[str, dict]:
    """Of every feature of the registry; a setting has the same meaning in all features of one crop."""
    found: dict[str, dict] = {}
    for name in FEATURES:
        encoder = world.wplus if feature_class(name).crop.of_face else world.clip
        sources = {"encoder": encoder, "detector": world.faces, "recogniser": world.faces}
        found[name] = {setting: str(sources[setting]) for setting, needed in known_settings(name).items() if needed}
    return found


def base_of(name: str, world: TinyWorld, sdxl_folder: Path, usual: Path | None = None) -> EncoderContext:
    """A base model that has the feature: only one like SDXL has pooled text."""
    return EncoderContext(str(sdxl_folder if name == "pooled_text" else usual or world.base), 64)


def make(world: TinyWorld) -> dict[str, Feature]:
    return make_features(FEATURES, settings(world), EncoderContext(str(world.base), 64))


@pytest.mark.parametrize("name", FEATURES)
def test_what_is_stored_has_the_shape_that_the_feature_says(
    name: str, tiny_world: TinyWorld, sdxl_folder: Path, tmp_path: Path
) -> None:
    photos = [p for p in load_photos(find_shards(str(tiny_world.dataset)), tiny_world.cache) if p.split == "test"][:3]
    context = base_of(name, tiny_world, sdxl_folder)
    features = Features([name], settings(tiny_world), context, tmp_path, Processes())
    features.fill_photos([name], photos)
    rows = features.of_photos(name, photos)
    feature = make_features([name], settings(tiny_world), context)[name]
    assert rows.shape == (3, *feature.shape) == (3, *features.shape(name)) and rows.dtype == torch.float32
    assert features.fingerprints() == {name: feature.fingerprint}


@pytest.mark.parametrize("name", FEATURES)
def test_no_bit_depends_on_what_else_was_missing(
    name: str, tiny_world: TinyWorld, sdxl_folder: Path, tmp_path: Path
) -> None:
    photos = [p for p in load_photos(find_shards(str(tiny_world.dataset)), tiny_world.cache) if p.landmarks][:11]
    # The pocket encoders: the last bit of those of the tiny world depends on little.
    given = {**settings(tiny_world)}
    encoder = STYLE if feature_class(name).crop.of_face else CLIP
    for setting, source in (("encoder", encoder), ("detector", FACES_A), ("recogniser", FACES_A)):
        if setting in given[name]:
            given[name][setting] = str(source)

    def rows(folder: str, *waves: list) -> torch.Tensor:
        context = base_of(name, tiny_world, sdxl_folder, BASE)
        features = Features([name], given, context, tmp_path / folder, Processes())
        for wave in waves:
            features.fill_photos([name], wave)
        return features.of_photos(name, photos)

    whole = rows("whole", photos)
    assert torch.equal(whole, rows("waves", photos[4:5], photos[8:], photos[:3], photos))
    assert torch.equal(whole, rows("backwards", *[[photo] for photo in photos[::-1]]))


def test_no_two_features_share_a_cache(tiny_world: TinyWorld) -> None:
    fingerprints = [feature.fingerprint for feature in make(tiny_world).values()]
    assert len(set(fingerprints)) == len(FEATURES)


def test_a_fingerprint_loads_no_network(tiny_world: TinyWorld) -> None:
    features = make(tiny_world)
    context = next(iter(features.values())).context
    assert all(feature.fingerprint for feature in features.values()) and not context._networks


def test_features_share_the_networks_of_a_source_until_they_are_released(tiny_world: TinyWorld) -> None:
    features = make(tiny_world)
    context = features["wplus"].context
    assert features["wplus"].shape == features["wplus_background"].shape == (10, 8)
    assert len(context._networks) == 1
    pair = context.network(load_wplus, str(tiny_world.wplus))
    context.release()
    assert context.network(load_wplus, str(tiny_world.wplus)) is not pair


def test_a_photo_by_itself_has_the_features_of_photos_but_no_masks(tiny_world: TinyWorld, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(stream, "PNG")
    features = Features(FEATURES, settings(tiny_world), EncoderContext(str(tiny_world.base), 64), tmp_path, Processes())
    found = features.encode_file(["clip", "wplus", "moments"], "me.png", stream.getvalue())
    assert {name: len(value) for name, value in found.items()} == {"clip": 1, "wplus": 1, "moments": 1}
    with pytest.raises(LikenessError, match=r"me\.png: a SquareMask cannot be made of a photo alone"):
        features.encode_file(["mask"], "me.png", stream.getvalue())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"clop": {}}, "unknown feature 'clop'; did you mean clip"),
        ({"dino": {}}, "unknown feature 'dino', known are moments, "),
        ({"clip": {"encodr": "x"}}, r"data\.features\.clip has no setting 'encodr'; did you mean encoder"),
        ({"wplus": {"encoder": "x"}}, r"data\.features\.wplus\.detector is missing: give --data\.features\.wplus "),
        ({"clip": None}, r"data\.features\.clip\.encoder is missing"),
        ({"clip": "x"}, r"data\.features\.clip is 'x', it must map encoder to values"),
    ],
)
def test_a_mistake_names_the_nearest_right_word(given: dict, said: str) -> None:
    with pytest.raises(LikenessError, match=said) as raised:
        check_settings(given)
    assert "\n" not in str(raised.value)


def test_a_face_embedding_is_the_recognisers_whether_landmarks_are_known_or_found(tiny_world: TinyWorld) -> None:
    photos = [p for p in load_photos(find_shards(str(tiny_world.dataset)), tiny_world.cache) if p.split == "test"][:3]
    given = {"recogniser": str(FACES_A), "detector": str(FACES_A), "det_size": 128}
    context = EncoderContext(str(BASE), 64)
    feature = make_features(["face_embedding"], {"face_embedding": given}, context)["face_embedding"]
    known = [feature.crop.of_photo(files, 64) for files in read_photos(photos)]
    found = [replace(portrait, landmarks=None) for portrait in known]
    faces = FacePack(FACES_A, 128).judge(np.stack([portrait.pixels for portrait in known]))
    np.testing.assert_allclose(feature.encode(found), faces.embeddings, atol=1e-5)
    embeddings = feature.encode(known)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    cosines = embeddings @ torch.from_numpy(faces.embeddings).T
    assert cosines.diagonal().min() > 0.8, "the dataset's landmarks lie where the detector finds them"


def test_a_runs_features_are_read_in_either_layout() -> None:
    wplus = {"encoder": "pocket/weights/style", "detector": "pocket/weights/faces_a", "det_size": [128]}
    flat = yaml.safe_load((ROOT / "pocket/weights/adapters/pidiff/config.yaml").read_text())["data"]
    assert run_features(flat) == {"wplus": wplus}
    own = yaml.safe_load((ROOT / "configs/pocket/pidiff.yaml").read_text())["data"]
    assert run_features(own) == {"wplus": wplus}
    assert run_features({"image_encoder": "x"}) == {"clip": {"encoder": "x"}}
    assert run_features({}) == {}


def test_sides_of_the_detector_are_checked_and_stand_in_the_fingerprint(tiny_world: TinyWorld) -> None:
    """The side of older runs stands for nothing, so that their features stay as they are."""

    def fingerprint(**sides: object) -> str:
        given = {"encoder": str(tiny_world.wplus), "detector": str(FACES_A), **sides}
        return make_features(["wplus"], {"wplus": given}, EncoderContext(str(tiny_world.base), 64))["wplus"].fingerprint

    old = fingerprint(det_size=[128])
    assert old.endswith(f"/{FacePack(FACES_A).fingerprint}") and fingerprint(det_size=128) == old
    assert fingerprint() == f"{old}@128+640" == fingerprint(det_size=[640, 128])
    with pytest.raises(LikenessError, match=r"^data\.features\.wplus\.det_size is 100: give one or more positive"):
        fingerprint(det_size=100)
