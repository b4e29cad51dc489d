"""The pair of encoder and generator: from a folder, from a public checkpoint, and refused where it does not fit."""

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from contracts.errors import LikenessError
from networks.wplus import CONFIG_FILE, WEIGHTS_FILE, load_wplus, save_wplus, wplus_fingerprint
from pocket.tiny.components import tiny_wplus
from tests.helpers import reference_weights as reference


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy it before changing a file."""
    return tiny_wplus(tmp_path_factory.mktemp("wplus") / "style")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tiny_wplus(tmp_path / "style")


@pytest.fixture
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def checkpoint(file: Path, **changes: Any) -> Path:
    """The public format for 1024 pixels: all names and shapes, but one stored number for each; ``None`` leaves out."""
    state = {f"encoder.{k}": torch.tensor(0.5).expand(s) for k, s in reference.layout("encoder").items()}
    state |= {f"decoder.{k}": torch.tensor(0.25).expand(s) for k, s in reference.layout("generator_1024").items()}
    content = {
        "state_dict": state,
        "latent_avg": torch.full((18, 512), 0.125),
        "opts": {"encoder_type": "Encoder4Editing", "stylegan_size": 1024, "device": "cuda:0", "id_lambda": 0.1},
    }
    torch.save({k: v for k, v in {**content, **changes}.items() if v is not None}, file)
    return file


def of_size(size: int) -> dict[str, Any]:
    return {"encoder_type": "Encoder4Editing", "stylegan_size": size}


def test_codes_are_offsets_from_the_mean_code(folder: Path, faces: np.ndarray) -> None:
    wplus = load_wplus(str(folder))
    assert (wplus.rows, wplus.width, wplus.size) == (10, 8, 64) and wplus.latent_avg.shape == (10, 8)
    codes = wplus.encode(faces)
    assert codes.shape == (3, 10, 8) and codes.dtype == torch.float32
    pixels = torch.from_numpy(faces).permute(0, 3, 1, 2) / 127.5 - 1
    torch.testing.assert_close(codes - wplus.latent_avg, wplus.encoder(pixels), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(wplus.encode(torch.from_numpy(faces)), codes)


def test_images_are_the_generators_in_8_bit(folder: Path, faces: np.ndarray) -> None:
    wplus = load_wplus(str(folder))
    codes = wplus.encode(faces)
    images = wplus.decode(codes)
    assert images.shape == (3, 64, 64, 3) and images.dtype == torch.uint8
    wanted = (wplus.decoder(codes).clamp(-1, 1) + 1) * 127.5
    assert (images.permute(0, 3, 1, 2).float() - wanted).abs().max() <= 0.501
    torch.testing.assert_close(images, wplus.decode(codes), atol=0, rtol=0)


def test_batches_give_what_single_faces_give(folder: Path, faces: np.ndarray) -> None:
    wplus = load_wplus(str(folder))
    single = torch.cat([wplus.encode(faces[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(wplus.encode(faces), single, atol=1e-5, rtol=1e-5)


def test_faces_of_another_side_are_resized_without_aliasing(folder: Path) -> None:
    wplus = load_wplus(str(folder))
    stripes = np.zeros((1, 256, 256, 3), np.uint8)
    stripes[:, :, ::2] = 254
    torch.testing.assert_close(
        wplus.encode(stripes), wplus.encode(np.full((1, 64, 64, 3), 127, np.uint8)), atol=1e-2, rtol=1e-2
    )


def test_it_is_frozen(folder: Path) -> None:
    wplus = load_wplus(str(folder)).train()
    assert not wplus.training and not any(m.training for m in wplus.modules())
    assert not any(p.requires_grad for p in wplus.parameters())


def test_half_precision_files_are_computed_with_in_single_precision(folder: Path, tmp_path: Path) -> None:
    wplus = load_wplus(str(folder))
    save_wplus(tmp_path / "half", wplus.encoder, wplus.decoder, wplus.latent_avg, torch.float16)
    half = load_wplus(str(tmp_path / "half"))
    assert (tmp_path / "half" / WEIGHTS_FILE).stat().st_size < 0.7 * (folder / WEIGHTS_FILE).stat().st_size
    assert all(p.dtype == torch.float32 for p in half.parameters()) and half.latent_avg.dtype == torch.float32
    torch.testing.assert_close(half.latent_avg, wplus.latent_avg, atol=1e-3, rtol=1e-3)


def test_the_fingerprint_names_the_weights(folder: Path, tmp_path: Path) -> None:
    assert (
        load_wplus(str(folder)).fingerprint
        == wplus_fingerprint(str(folder))
        == wplus_fingerprint(str(tiny_wplus(tmp_path / "same")))
    )
    assert wplus_fingerprint(str(tiny_wplus(tmp_path / "other", seed=1))) != wplus_fingerprint(str(folder))


def test_a_public_checkpoint_loads(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "e4e.pt")
    wplus = load_wplus(str(file))
    assert (wplus.rows, wplus.width, wplus.size) == (18, 512, 1024)
    assert wplus.fingerprint == wplus_fingerprint(str(file))
    assert (wplus.latent_avg == 0.125).all()
    assert all((p == 0.5).all() for p in (wplus.encoder.latlayer1.bias, wplus.encoder.body[23].res_layer[3].weight[0]))
    assert wplus.decoder.conv1.noise.weight.item() == 0.25


@pytest.mark.parametrize(("started", "mean"), [(True, 0.125), (False, 0.0)])
def test_codes_start_from_the_mean_code_where_the_checkpoints_did(started: bool, mean: float, tmp_path: Path) -> None:
    """e4e's training writes ``latent_avg`` only where it began from the mean code."""
    opts = {**of_size(1024), "start_from_latent_avg": started}
    written = {} if started else {"latent_avg": None}
    wplus = load_wplus(str(checkpoint(tmp_path / "e4e.pt", opts=opts, **written)))
    assert wplus.latent_avg.shape == (18, 512) and (wplus.latent_avg == mean).all()


def test_a_checkpoint_of_another_size_says_so_before_it_lists_entries(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "e4e.pt", opts=of_size(512))
    with pytest.raises(LikenessError, match=r"is of another size: latent_avg is \(18, 512\), expected \(16, 512\)"):
        load_wplus(str(file))


def test_shapes_of_another_size_are_named(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "e4e.pt", latent_avg=torch.zeros(16, 512))
    with pytest.raises(LikenessError, match=r"another size: latent_avg is \(16, 512\), expected \(18, 512\)"):
        load_wplus(str(file))


@pytest.mark.parametrize("name", ["encoder.styles.3.linear.weight", "decoder.noises.noise_16"])
def test_a_missing_entry_is_named(name: str, tmp_path: Path) -> None:
    state = torch.load(checkpoint(tmp_path / "whole.pt"), weights_only=True)["state_dict"]
    file = checkpoint(tmp_path / "e4e.pt", state_dict={k: v for k, v in state.items() if k != name})
    with pytest.raises(LikenessError, match=f"lacks {name}"):
        load_wplus(str(file))


def test_an_extra_entry_is_named(tmp_path: Path) -> None:
    state = torch.load(checkpoint(tmp_path / "whole.pt"), weights_only=True)["state_dict"]
    file = checkpoint(tmp_path / "e4e.pt", state_dict={**state, "encoder.extra": torch.zeros(2)})
    with pytest.raises(LikenessError, match=r"has the unknown entry encoder\.extra"):
        load_wplus(str(file))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"latent_avg": None}, "has no latent_avg"),
        ({"latent_avg": None, "opts": {**of_size(1024), "start_from_latent_avg": True}}, "has no latent_avg"),
        ({"state_dict": None}, "has no state_dict"),
        ({"opts": of_size(1000)}, r"e4e\.pt.*stylegan_size 1000, expected a power of two, 8 to 1024"),
        ({"opts": of_size(2**40)}, f"stylegan_size {2**40}, expected a power of two, 8 to 1024"),
        ({"opts": [1]}, "opts is a list"),
        ({"opts": of_size("1024")}, "stylegan_size '1024', expected a power of two"),  # type: ignore[arg-type]
        ({"state_dict": {"encoder.a": 3}}, r"the entry encoder\.a is no tensor"),
        ({"state_dict": {3: torch.zeros(1)}}, r"e4e\.pt.*state_dict has a key of type int"),
        ({"latent_avg": torch.zeros(18, 512, dtype=torch.int64)}, "latent_avg is of torch.int64, expected floating"),
        ({"opts": {"encoder_type": "GradualStyleEncoder"}}, "type GradualStyleEncoder, only Encoder4Editing"),
        ({"opts": {**of_size(512), "dataset_type": "cars_encode"}}, "is of cars_encode, only encoders of square"),
    ],
)
def test_other_checkpoints_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(LikenessError, match=message):
        load_wplus(str(checkpoint(tmp_path / "e4e.pt", **changes)))


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "e4e.pt", discriminator=Trap(tmp_path / "sprung"))
    with pytest.raises(LikenessError, match=r"e4e\.pt' holds more than tensors and plain settings") as raised:
        load_wplus(str(file))
    assert not (tmp_path / "sprung").exists()
    assert str(raised.value).isprintable() and "weights_only" not in str(raised.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_that_are_objects_are_refused_without_torchs_advice(zipped: bool, tmp_path: Path) -> None:
    """torch recommends, in several lines and with colours, to load the file by running what is in it."""
    content = {"state_dict": {}, "opts": Namespace(stylegan_size=1024)}
    torch.save(content, tmp_path / "e4e.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(LikenessError, match="give a file of the plain state_dict, latent_avg and opts") as raised:
        load_wplus(str(tmp_path / "e4e.pt"))
    assert str(raised.value).isprintable() and "weights_only" not in str(raised.value)


def test_missing_and_extra_entries_are_named_together(tmp_path: Path) -> None:
    state = torch.load(checkpoint(tmp_path / "whole.pt"), weights_only=True)["state_dict"]
    state["encoder.latlayer1.weights"] = state.pop("encoder.latlayer1.weight")
    with pytest.raises(
        LikenessError,
        match=r"lacks encoder\.latlayer1\.weight; it has the unknown entry encoder\.latlayer1\.weights$",
    ):
        load_wplus(str(checkpoint(tmp_path / "e4e.pt", state_dict=state)))


def test_files_that_are_something_else_are_refused(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(LikenessError, match="no folder or checkpoint at"):
        load_wplus(str(tmp_path / "absent.pt"))
    for name, content in (("text.pt", b"weights"), ("empty.pt", b""), ("page.pt", b"<html>\n<body>sign in")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LikenessError, match=rf"{name}' is no PyTorch checkpoint"):
            load_wplus(str(tmp_path / name))
    whole = checkpoint(tmp_path / "e4e.pt", state_dict={"encoder.a": torch.zeros(1000)})
    (tmp_path / "half.pt").write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(LikenessError, match=r"half\.pt' is damaged, or no PyTorch checkpoint"):
        load_wplus(str(tmp_path / "half.pt"))
    (copy / WEIGHTS_FILE).write_bytes((copy / WEIGHTS_FILE).read_bytes()[:1000])
    with pytest.raises(LikenessError, match=r"cannot read .*model\.safetensors"):
        load_wplus(str(copy))


def configured(folder: Path, part: str, **changes: Any) -> None:
    settings = json.loads((folder / CONFIG_FILE).read_text())
    settings[part] |= changes
    (folder / CONFIG_FILE).write_text(json.dumps(settings))


@pytest.mark.parametrize(
    "part, changes, message",
    [
        (
            "generator",
            {"size": 128, "channels": [8] * 6},
            r"is of another size: latent_avg is \(10, 8\), expected \(12, 8\)",
        ),
        ("generator", {"width": 16}, "of another size: decoder.conv1.conv.modulation.weight"),
        ("generator", {"colour": 1}, "config.json.*unexpected keyword argument 'colour'"),
        ("generator", {"width": -8}, r"config\.json': generator width is -8: it must be at least 1"),
        ("generator", {"channels": [8, 8, 8, 8, -8]}, "config.json' is no such configuration"),
        ("generator", {"size": 2**40, "channels": [8] * 39}, "config.json' is no such configuration"),
        ("encoder", {"input_size": 48}, r"config\.json.*power of two"),
    ],
)
def test_a_folder_whose_configuration_does_not_fit(
    part: str, changes: dict[str, Any], message: str, copy: Path
) -> None:
    configured(copy, part, **changes)
    with pytest.raises(LikenessError, match=message):
        load_wplus(str(copy))


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("encoder.styles.3.linear.weight", torch.ones(8, 8, dtype=torch.int64), "is of torch.int64, expected floating"),
        ("decoder.conv1.noise.weight", torch.tensor([float("nan")]), "holds NaN or infinity"),
        ("latent_avg", torch.full((10, 8), float("inf"), dtype=torch.float16), "holds NaN or infinity"),
    ],
)
def test_weights_that_are_no_numbers_to_compute_with(name: str, value: Tensor, message: str, copy: Path) -> None:
    save_file(load_file(copy / WEIGHTS_FILE) | {name: value}, copy / WEIGHTS_FILE)
    with pytest.raises(LikenessError, match=rf"{name} {message}"):
        load_wplus(str(copy))


def test_a_folder_without_configuration(copy: Path) -> None:
    (copy / CONFIG_FILE).unlink()
    with pytest.raises(LikenessError, match=r"config\.json"):
        load_wplus(str(copy))


def test_saved_values_come_back(tmp_path: Path, folder: Path) -> None:
    wplus = load_wplus(str(folder))
    save_wplus(tmp_path / "again", wplus.encoder, wplus.decoder, wplus.latent_avg)
    again: dict[str, Tensor] = load_wplus(str(tmp_path / "again")).state_dict()
    for name, value in wplus.state_dict().items():
        torch.testing.assert_close(again[name], value, atol=0, rtol=0)
