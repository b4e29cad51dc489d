"""What generates is made in every process or in none."""

from types import SimpleNamespace

import pytest
import torch.distributed

from contracts.errors import LikenessError
from leaderboard.generate.generation import ModelGenerator, PromptOnly
from leaderboard.results.folder import Results
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
            ModelGenerator(fabric, protocol, Results("nowhere"), base, load)  # type: ignore[arg-type]
        return str(error.value)

    assert run_ranks(work) == ["not on this machine"] * 2
