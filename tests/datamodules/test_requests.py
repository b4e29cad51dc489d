"""Requests to draw: each in exactly one process, with noise of its own."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from contracts.batch import RequestBatch
from contracts.errors import LikenessError
from contracts.records import Request
from datamodules.features.cache import content_key
from datamodules.features.encoders import Features, FrozenEncoders
from datamodules.processes import Processes
from datamodules.requests import RequestDataModule, fill_references, fill_texts
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


def _batches(world: World, requests: list[Request], **arguments: object) -> list[RequestBatch]:
    settings = {
        "backbone": str(world.base),
        "image_encoder": str(world.clip),
        "resolution": 64,
        "needs": ("clip",),
        "seed": 7,
        "batch_size": 3,
        "cache_dir": world.cache,
        **arguments,
    }
    datamodule = RequestDataModule(requests, REFERENCES, NOUNS, **settings)  # type: ignore[arg-type]
    datamodule.setup("predict")
    return list(datamodule.predict_dataloader())


def test_batches_hold_what_their_requests_ask_for(world: World) -> None:
    batches = _batches(world, _requests())
    assert [len(b.request_ids) for b in batches] == [3, 3, 2]
    backbone, clip = load_backbone(str(world.base)), load_clip_image(str(world.clip))
    requests = {r.id: r for r in _requests()}
    for batch in batches:
        for i, name in enumerate(batch.request_ids):
            request = requests.pop(name)
            assert (batch.subjects[i], batch.prompts[i]) == (request.subject, request.prompt)
            assert torch.equal(batch.noise[i], keyed_normal((4, 16, 16), "request", 7, name))
            states = backbone.encode_text([request.prompt.replace("<subject>", "person")])[0]
            assert torch.allclose(batch.text_states[i], states, atol=1e-5)
            grey = np.asarray(Image.open(io.BytesIO(REFERENCES[request.subject])))
            assert torch.allclose(batch.reference["clip"][i], clip.encode(grey[None])[0], atol=1e-5)
    assert not requests


def test_noise_and_text_do_not_depend_on_what_else_is_pending(world: World) -> None:
    def by_id(batches: list[RequestBatch]) -> dict[str, tuple]:
        return {
            name: (b.noise[i], b.text_states[i], b.reference["clip"][i])
            for b in batches
            for i, name in enumerate(b.request_ids)
        }

    whole = by_id(_batches(world, _requests()))
    part = by_id(_batches(world, _requests()[3:6:2], batch_size=1))
    assert len(part) == 2
    for name, tensors in part.items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, whole[name], strict=True))


def test_the_floor_needs_no_reference(world: World) -> None:
    datamodule = RequestDataModule(_requests(), {}, NOUNS, str(world.base), cache_dir=world.cache)
    datamodule.setup("predict")
    assert all(batch.reference == {} for batch in datamodule.predict_dataloader())


class _Names(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def predict_step(self, batch: RequestBatch, batch_idx: int) -> None:
        self.names += batch.request_ids


@pytest.mark.parametrize("count", [1, 5, 8])
def test_two_processes_draw_every_request_once_through_a_trainer(world: World, count: int) -> None:
    requests = _requests()[:count]

    def work() -> list[str]:
        module = _Names()
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        datamodule = RequestDataModule(
            requests, REFERENCES, NOUNS, str(world.base), str(world.clip), 64, ("clip",), 7, 3, world.cache
        )
        trainer.predict(module, datamodule, return_predictions=False)
        return module.names

    drawn = run_ranks(work)
    assert Counter(drawn[0] + drawn[1]) == Counter(r.id for r in requests)
    assert drawn[0] == [r.id for r in requests[::2]]


def test_a_photo_that_one_process_cannot_read_stops_all_of_them(world: World, tmp_path: Path) -> None:
    """Each has one of the two photos to encode; afterwards they go on together."""
    photos = {content_key(data): (name, data) for name, data in (("ada", _photo(90)), ("bob", b"?"))}

    def work() -> tuple[str, int]:
        rank = torch.distributed.get_rank()
        encoders = FrozenEncoders(str(world.base), str(world.clip), 64, torch.device("cpu"))
        features = Features(encoders, tmp_path, Processes(rank, 2, rank, 2))
        with pytest.raises(LikenessError) as error:
            fill_references(features, ("clip",), photos, 64)
        fill_texts(features, PROMPTS)
        return str(error.value), len(features["text"].missing(map(content_key, PROMPTS)))

    (first, missing), second = run_ranks(work)
    assert first.startswith("the reference photo of bob is no readable") and missing == 0
    assert second == (first, missing)


def test_mistakes_are_named(world: World) -> None:
    base = str(world.base)
    with pytest.raises(LikenessError, match="same id"):
        RequestDataModule(_requests() * 2, REFERENCES, NOUNS, base)
    with pytest.raises(LikenessError, match="'bob' has no class noun"):
        RequestDataModule(_requests(), REFERENCES, {"ada": "person"}, base)
    with pytest.raises(LikenessError, match="'bob' has no reference photo"):
        RequestDataModule(_requests(), {"ada": b""}, NOUNS, base, needs=("clip",))
    broken = RequestDataModule(
        _requests(), {**REFERENCES, "bob": b"?"}, NOUNS, base, str(world.clip), 64, ("clip",), cache_dir=world.cache
    )
    with pytest.raises(LikenessError, match="the reference photo of bob is no readable"):
        broken.setup("predict")
    unknown = RequestDataModule(_requests(), REFERENCES, NOUNS, base, needs=("dino",), cache_dir=world.cache)
    with pytest.raises(LikenessError, match="unknown image feature 'dino', known are clip"):
        unknown.setup("predict")
