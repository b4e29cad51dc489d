"""The benchmark for accelerators: published sizes, both sides of a row, what is counted, and the table."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from performance.accelerator import counts
from performance.accelerator.measuring import Machine
from performance.accelerator.rows import ROWS, Goal
from performance.accelerator.shapes import SD15, SDXL, Shape, random_backbone, thin
from performance.accelerator.sides import Case, enrolling, generating, spotdiff, textual_inversion, training
from performance.accelerator.table import HEADING, write_table

HERE = Machine(torch.device("cpu"), timed=False, dtype=None)
BLOCKS = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "layers_per_block": 1}
FEW = {"block_out_channels": (16, 32), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 2}


def few_layers(shape: Shape) -> Shape:
    """A thin shape of few layers: seconds in place of minutes."""
    small = thin(shape)
    unet = {**small.unet, **BLOCKS, **FEW, "transformer_layers_per_block": 1}
    text = tuple({**one, "num_hidden_layers": 1} for one in small.text)
    return replace(small, unet=unet, text=text, image={**small.image, "num_hidden_layers": 1})


@pytest.mark.parametrize(("shape", "parameters"), [(SD15, 859_520_964), (SDXL, 2_567_463_684)])
def test_the_unets_have_the_published_size(shape: Shape, parameters: int) -> None:
    backbone = random_backbone(shape, torch.device("meta"))
    assert sum(p.numel() for p in backbone.unet.parameters()) == parameters
    assert backbone.resolution == shape.resolution


def test_ours_encodes_nothing_and_waits_for_nothing() -> None:
    sides = training(HERE, Case(few_layers(SDXL)), spotdiff)
    assert sides["ours"] == {"syncs": 0, "encodes": 0, "casts": 0, "graph_breaks": 0}
    assert sides["plain"] == {"syncs": 1, "encodes": 5, "casts": 0}


def test_a_subject_has_the_text_encoder_alone_through_which_its_gradient_goes() -> None:
    sides = enrolling(HERE, Case(few_layers(SD15)), textual_inversion)
    assert sides.keys() == {"ours", "of 16", "plain"}
    assert sides["ours"]["syncs"] == 0 and sides["ours"]["encodes"] == 1 and sides["plain"]["encodes"] == 2


def test_images_are_those_of_the_stock_pipeline_in_number() -> None:
    sides = generating(HERE, Case(few_layers(SD15), size=2))
    assert sides.keys() == {"ours", "plain"} and sides["ours"]["casts"] == 0


def test_casts_waits_and_breaks_are_seen_where_there_are_some() -> None:
    layer, x = nn.Linear(4, 4).requires_grad_(False), torch.ones(2, 4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            layer(x).sum().item()

    assert counts.casts(step, layer) == 2
    assert counts.waits(step, torch.device("cpu"))["syncs"] == 1
    assert counts.flops(step) == 2 * 2 * 4 * 4


def test_goals_are_of_ours_or_of_the_gain() -> None:
    sides = {"ours": {"ms": 50.0, "images_per_second": 20.0}, "plain": {"images_per_second": 10.0}}
    sides["of 16"] = {"images_per_second": 60.0}
    assert Goal("gain", 1.8, "higher").value(sides) == 2 and Goal("gain", 1.8, "higher").holds(2)
    assert Goal("gain", 2.5, "higher", against="of 16").value(sides) == 3
    assert Goal("ms", 60, "lower").holds(50) and Goal("idle", 0.05, "lower").value(sides) is None
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_the_table_takes_the_place_of_the_former_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\ntext\n\n## After\n\nmore\n")
    rows = [{"name": "a", "goals": ["ms at most 60"], "not_run": "no time was left"}]
    write_table(page, "a device", True, rows)
    assert "*not run*" in page.read_text()
    rows = [{"name": "a", "goals": ["ms at most 60"], "values": [50.0], "ours": {"ms": 50.0}, "plain": {"ms": 99.0}}]
    write_table(page, "a device", True, rows)
    text = page.read_text()
    assert text.count(HEADING) == 1 and "*not run*" not in text and "ms at most 60: 50" in text
    assert "## After\n\nmore" in text
