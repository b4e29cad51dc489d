"""LoRA of several subjects in one batch, beside peft's own forward pass, and which layers it changes."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from torch import Tensor

from contracts.errors import LikenessError
from contracts.text import Text
from networks.backbone import Backbone, empty_backbone
from networks.subject_lora import BatchedLora, LoraConditioning, LoraPairs, target_layers
from tests.helpers.batches import normal

SD15 = Path(__file__).parents[1] / "lightning_modules" / "sd15"
ATTENTIONS = ["to_q", "to_k", "to_v", "to_out.0"]


def config(targets: list[str] | str, rank: int = 2, alpha: float = 3.0) -> LoraConfig:
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)


def trained(sizes: dict[str, tuple[int, int]], key: int) -> dict[str, Tensor]:
    """The pairs of a subject that learnt something."""
    return {name: 0.3 * normal(*value.shape, key=(key, name)) for name, value in LoraPairs(sizes, 2)().items()}


@pytest.mark.parametrize("targets", [ATTENTIONS, ["to_k", "ff.net.2", "time_emb_proj", "linear_1"], ".*attn2.to_v"])
def test_a_row_is_what_peft_computes_with_its_subject(backbone: Backbone, targets: list[str] | str) -> None:
    unet = UNet2DConditionModel.from_config(backbone.unet.config)
    unet.load_state_dict(backbone.unet.state_dict())
    chosen = config(targets)
    sizes = target_layers(unet, chosen)
    subjects = [trained(sizes, key) for key in range(2)]
    lora = BatchedLora(unet, list(sizes), scaling=1.5)
    z, t, text = normal(3, 4, 16, 16, key="z"), torch.tensor([5, 400, 900]), normal(3, 24, 32, key="text")
    pairs = {name: torch.stack([one[name] for one in subjects]) for name in subjects[0]}
    rows = torch.tensor([1, 0, 1])

    @torch.no_grad()
    def run(model: UNet2DConditionModel, row: slice = slice(None)) -> Tensor:
        return model(z[row], t[row], encoder_hidden_states=text[row]).sample

    plain = run(unet)
    with torch.no_grad(), lora.reading(LoraConditioning.from_text(Text(text), pairs=pairs, rows=rows)):
        found = run(unet)
    assert torch.equal(run(unet), plain), "outside of the block it is the base model"
    for row, subject in enumerate(rows.tolist()):
        other = UNet2DConditionModel.from_config(unet.config)
        other.load_state_dict(unet.state_dict())
        inject_adapter_in_model(chosen, other)
        set_peft_model_state_dict(other, subjects[subject])
        torch.testing.assert_close(found[row : row + 1], run(other, slice(row, row + 1)), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(found[row], plain[row], atol=1e-3)


def test_the_pairs_begin_as_peft_begins_them(backbone: Backbone) -> None:
    unet = UNet2DConditionModel.from_config(backbone.unet.config)
    sizes = target_layers(unet, config(["to_q"], rank=8))
    inject_adapter_in_model(config(["to_q"], rank=8), unet)
    theirs = {name: value for name, value in unet.state_dict().items() if ".lora_" in name}
    ours = LoraPairs(sizes, 8)()
    assert ours.keys() == {name.replace(".default", "") for name in theirs}
    for name, value in theirs.items():
        mine = ours[name.replace(".default", "")]
        assert mine.shape == value.shape
        assert (
            mine.std().item() == pytest.approx(value.std().item(), rel=0.35)
            and mine.abs().max() <= mine.shape[1] ** -0.5
        )


def test_what_cannot_be_a_target_is_one_line(backbone: Backbone) -> None:
    for targets, words in ((["to_z"], "to_z"), (["conv_in"], "conv_in is no linear layer")):
        with pytest.raises(LikenessError, match=rf"model.target_modules: .*{words}") as raised:
            target_layers(backbone.unet, config(targets))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("rank", "number"), [(4, 797_184), (16, 3_188_736)])
def test_it_has_as_many_parameters_at_real_size_as_is_known(rank: int, number: int) -> None:
    """diffusers' own LoRA of Stable Diffusion 1.5's attentions is a file of 3.2 MB at rank 4."""
    unet = empty_backbone(SD15).unet
    sizes = target_layers(unet, config(ATTENTIONS, rank))
    assert len(sizes) == 128
    assert sum(rank * (inner + outer) for inner, outer in sizes.values()) == number
