"""Requests to generate: each in exactly one process, with noise of its own."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contracts.batch import RequestBatch
from contracts.errors import LikenessError
from contracts.records import Request
from datamodules.features.base import EncoderContext
from datamodules.features.cache import content_key
from datamodules.features.store import Features
from datamodules.processes import Processes
from datamodules.requests import RequestLoader, reference_name
from datamodules.samplers import share
from networks.backbone import load_backbone
from networks.clip_image import load_clip_image
from networks.keyed_noise import keyed_normal
from tests.datamodules.conftest import World
from tests.helpers.distributed import run_ranks

PROMPTS = ("a photo of a <subject> on a beach", "a pencil sketch of a <subject>")


def _requests(samples: int = 2) -> list[Request]:
    return [
        Request(subject, f"p{i}", prompt, "scene", sample)
        for subject in ("ada", "bob")
        for i, prompt in enumerate(PROMPTS)
        for sample in range(samples)
    ]


def _photo(grey: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


REFERENCES = {"ada": _photo(90), "bob": _photo(200)}
NOUNS = {"ada": "person", "bob": "person"}


def _features(world: World, folder: Path, processes: Processes | None = None) -> Features:
    settings = {"clip": {"encoder": str(world.clip)}}
    return Features(["text", "clip"], settings, EncoderContext(str(world.base), 64), folder, processes or Processes())


def _files(photos: dict[str, bytes]) -> dict[str, tuple[str, bytes]]:
    return {content_key(data): (reference_name(subject), data) for subject, data in photos.items()}


def _loader(
    world: World,
    requests: list[Request],
    batch_size: int = 3,
    needs: tuple[str, ...] = ("clip",),
    processes: Processes | None = None,
) -> RequestLoader:
    """As evaluation makes it: texts and photos encoded first, then batches of a share of the requests."""
    features = _features(world, world.cache / "features", processes)
    features.fill_texts([request.prompt.replace("<subject>", "person") for request in requests])
    features.fill_files(needs, _files(REFERENCES))
    keys = {subject: [dict.fromkeys(needs, content_key(data))] for subject, data in REFERENCES.items()}
    mine = share(requests, processes.rank, processes.count) if processes else requests
    return RequestLoader(mine, features, keys, NOUNS, needs, 7, batch_size)


def test_batches_hold_what_their_requests_ask_for(world: World) -> None:
    batches = list(_loader(world, _requests()))
    assert [len(b.request_ids) for b in batches] == [3, 3, 2]
    backbone, clip = load_backbone(str(world.base)), load_clip_image(str(world.clip))
    requests = {r.id: r for r in _requests()}
    for batch in batches:
        for i, name in enumerate(batch.request_ids):
            request = requests.pop(name)
            assert (batch.subjects[i], batch.prompts[i]) == (request.subject, request.prompt)
            assert torch.equal(batch.noise[i], keyed_normal((4, 16, 16), "request", 7, name))
            states = backbone.encode_text([request.prompt.replace("<subject>", "person")]).states[0]
            assert torch.allclose(batch.text_states.states[i], states, atol=1e-5)
            grey = np.asarray(Image.open(io.BytesIO(REFERENCES[request.subject])))
            assert torch.allclose(batch.reference["clip"][i], clip.encode(grey[None])[0], atol=1e-5)
    assert not requests


def test_images_of_two_have_the_references_of_both(world: World) -> None:
    """And the further references of each."""
    beside = {"ada": "bob", "bob": "ada"}
    texts = {name: f"a <subject> and a <{other}>" for name, other in beside.items()}
    requests = [Request(name, "two", texts[name], "scene", 0, beside[name]) for name in ("ada", "bob", "ada")]
    features = _features(world, world.cache / "features")
    features.fill_texts(["a person and a person"])
    features.fill_files(("clip",), _files(REFERENCES | {"more": _photo(30)}))
    one, two = ({"clip": content_key(data)} for data in REFERENCES.values())
    more = {"clip": content_key(_photo(30))}
    keys = {"ada": [one, more], "bob": [two, one]}
    (batch,) = RequestLoader(requests, features, keys, NOUNS, ("clip",), 7, 3)
    first, second = batch.by_subject()
    assert (first.beside, second.beside) == ({}, {}) and first.prompts == second.prompts == batch.prompts
    assert torch.equal(second.reference["clip"], first.reference["clip"][[1, 0, 1]])
    assert torch.equal(second.further["clip"], first.further["clip"][[1, 0, 1]])
    assert not torch.equal(first.reference["clip"][0], first.reference["clip"][1])
    assert torch.equal(first.further["clip"][1, 0], first.reference["clip"][0])


def test_noise_and_text_do_not_depend_on_what_else_is_pending(world: World) -> None:
    def by_id(batches: list[RequestBatch]) -> dict[str, tuple]:
        return {
            name: (b.noise[i], b.text_states.states[i], b.reference["clip"][i])
            for b in batches
            for i, name in enumerate(b.request_ids)
        }

    whole = by_id(list(_loader(world, _requests())))
    part = by_id(list(_loader(world, _requests()[3:6:2], batch_size=1)))
    assert len(part) == 2
    for name, tensors in part.items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, whole[name], strict=True))


def test_the_floor_needs_no_reference(world: World) -> None:
    assert all(batch.reference == {} for batch in _loader(world, _requests(), needs=()))


@pytest.mark.parametrize("count", [1, 5, 8])
def test_two_processes_load_every_request_once(world: World, count: int) -> None:
    requests = _requests()[:count]

    def work() -> list[str]:
        rank = torch.distributed.get_rank()
        loader = _loader(world, requests, processes=Processes(rank, 2, rank, 2))
        return [name for batch in loader for name in batch.request_ids]

    loaded = run_ranks(work)
    assert Counter(loaded[0] + loaded[1]) == Counter(r.id for r in requests)
    assert loaded[0] == [r.id for r in requests[::2]]


def test_the_length_told_is_that_of_the_process_with_the_most(world: World) -> None:
    features = _features(world, world.cache / "features")
    loader = RequestLoader([], features, {}, NOUNS, (), 7, 3, largest=4)
    assert len(loader) == 2 and list(loader) == []


def test_a_photo_that_one_process_cannot_read_stops_all_of_them(world: World, tmp_path: Path) -> None:
    """Each has one of the two photos to encode; afterwards they go on together."""

    def work() -> tuple[str, int]:
        rank = torch.distributed.get_rank()
        features = _features(world, tmp_path, Processes(rank, 2, rank, 2))
        with pytest.raises(LikenessError) as error:
            features.fill_files(["clip"], _files({"ada": _photo(90), "bob": b"?"}))
        features.fill_texts(PROMPTS)
        return str(error.value), len(features["text"].missing(map(content_key, PROMPTS)))

    (first, missing), second = run_ranks(work)
    assert first.startswith("the reference photo of bob is no readable") and missing == 0
    assert second == (first, missing)
