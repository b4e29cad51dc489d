"""Training stage 2 of PIDiff, with three forwards of the UNet, against a step with one: time over FLOPs.

The two steps do different work, so their ratio is divided by that of their FLOPs: 1 means that the two targets cost
what their arithmetic costs and nothing else.
"""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from contracts.batch import PairBatch
from contracts.conditioning import Conditioning
from contracts.text import Text
from lightning_modules.pidiff import PIDiff
from losses.localisation import face_loss
from networks.backbone import load_backbone
from networks.keyed_noise import keyed_normal
from performance.timing import Result, Rounds, compare
from pocket.models.paths import BASE

BATCH_SIZE = 8
GOAL = 1.1
CODE = (10, 64)
Step = Callable[[], None]


def measure(rounds: Rounds | None = None) -> Result:
    """Milliseconds per step of both sides; time ratio / FLOP ratio."""
    three, one = steps()
    flops = _flops(three) / _flops(one)
    rounds = compare(three, one, rounds)
    ours = 1000 * rounds.ours
    reference = 1000 * rounds.reference
    share = ours / reference / flops
    return Result(
        "three forwards, time over FLOPs", ours, reference, share, GOAL, "lower", "ms/step", rounds.self_ratio
    )


def steps() -> tuple[Step, Step]:
    """(three, one): the step of training stage 2, and a step with the face's loss only. Both update the weights."""
    torch.manual_seed(0)
    model = PIDiff(load_backbone(str(BASE)), *CODE)
    batch = noise_batch(model)
    optimiser = torch.optim.AdamW(model.parameter_groups(), lr=model.learning_rate, fused=True)

    def update(loss: Callable[[], torch.Tensor]) -> Step:
        def step() -> None:
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()

        return step

    whole = update(lambda: torch.stack(list(model.loss_terms(batch).values())).sum())
    whole()  # freezes the queries for both, as training stage 2 does, and makes the optimiser's state
    return whole, update(lambda: one_forward(model, batch))


def one_forward(model: PIDiff, batch: PairBatch) -> torch.Tensor:
    """The loss of training stage 2 on the face alone, which needs no target of the other forwards."""
    noisy, target = model.noisy_and_target(batch)
    with torch.no_grad():
        tokens = model.identity_tokens(batch.reference["wplus"], batch.drop_identity)
    identity = Conditioning.from_text(batch.text_states, identity=tokens)
    assert batch.face is not None
    return face_loss(model.denoise(noisy, batch.timestep, identity), target, batch.face).mean()


def noise_batch(model: PIDiff, size: int = BATCH_SIZE) -> PairBatch:
    """A batch of noise with the shapes of cached features."""
    channels, height, width = model.backbone.latent_shape
    text = (model.backbone.tokenizer.model_max_length, model.backbone.unet.config.cross_attention_dim)

    def normal(name: str, *shape: int) -> torch.Tensor:
        return keyed_normal((size, *shape), "three forwards", name)

    return PairBatch(
        sample_ids=tuple(f"b{i:04d}" for i in range(size)),
        moments=normal("moments", 2 * channels, height, width),
        latent_noise=normal("latent", channels, height, width),
        noise=normal("noise", channels, height, width),
        timestep=torch.arange(size) * 999 // max(1, size - 1),
        text_states=Text(normal("text", *text)),
        drop_identity=torch.arange(size) % 8 == 7,
        reference={"wplus": normal("reference", *model.code_shape)},
        second_view={},
        mask=torch.ones(size, 1, height, width),
        face=torch.sigmoid(normal("face", 1, height, width)),
        other={"wplus": normal("other", *model.code_shape)},
    )


def _flops(work: Step) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
