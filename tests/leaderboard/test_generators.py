"""What generates is made in every process or in none, and the floor is the stock pipeline."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch.distributed
from diffusers import StableDiffusionPipeline

from contracts.batch import RequestBatch
from contracts.errors import LikenessError
from leaderboard.generate.generation import ModelGenerator, PromptOnly
from networks.sampler import SamplingSettings
from tests.helpers.batches import normal
from tests.helpers.distributed import run_ranks
from tests.leaderboard.conftest import World


def test_a_model_that_one_process_cannot_load_stops_all_of_them(world: World) -> None:
    base = str(world.root / "base")

    def work() -> str:
        rank = torch.distributed.get_rank()

        def load() -> PromptOnly:
            if rank == 1:
                raise LikenessError("not on this machine")
            return PromptOnly(base)

        fabric = SimpleNamespace(global_rank=rank, world_size=2)
        protocol = SimpleNamespace(backbone=PromptOnly(base).backbone.fingerprint)
        with pytest.raises(LikenessError) as error:
            ModelGenerator(fabric, protocol, {}, base, load, {}, "32-true")  # type: ignore[arg-type]
        return str(error.value)

    assert run_ranks(work) == ["not on this machine"] * 2


def test_the_floors_images_for_a_negative_prompt_are_those_of_the_stock_pipeline(world: World) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(world.root / "base")
    pipeline.set_progress_bar_config(disable=True)
    floor = PromptOnly(str(world.root / "base"))
    noise, prompt = normal(1, 4, 16, 16), "a photo of a person on a beach"
    batch = RequestBatch(("r",), ("s",), (prompt,), noise, floor.backbone.encode_text([prompt]), {})
    found = []
    for negative in ("", "an oil painting"):
        floor.sampling = SamplingSettings("ddim", steps=3, guidance=3.0, negative_prompt=negative)
        stock = pipeline(
            prompt,
            negative_prompt=negative,
            latents=noise.clone(),
            num_inference_steps=3,
            guidance_scale=3.0,
            output_type="np",
            eta=0.0,
        ).images
        found.append(floor.generate(batch).numpy())
        assert np.abs(found[-1] / 255.0 - stock).max() <= 1 / 255
    assert (found[0] != found[1]).any()
