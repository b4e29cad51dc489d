"""Public IP-Adapter files in, ours out: plain, Plus and FaceID.

    python -m tools.ip_adapter import ip-adapter_sd15.safetensors --backbone BASE --encoder CLIP --output runs/public
    python -m tools.ip_adapter export --run runs/ip_adapter --output ip-adapter.safetensors

What was imported is a run folder, an entry of evaluate.py and generate.py. What was exported is read by
``pipe.load_ip_adapter`` of stock diffusers.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from contracts.commands import as_command
from contracts.errors import LikenessError
from contracts.files import file_sha256, write_atomically, write_json
from datamodules.features.base import EncoderContext
from datamodules.features.registry import make_features
from lightning_modules import IPAdapter, IPAdapterFaceID, IPAdapterPlus
from lightning_modules.image_prompt import ImagePrompt
from lightning_modules.run import Run
from networks.adapter_file import misfit
from networks.backbone import load_backbone
from networks.ip_adapter_file import public_names, read_public, write_public

STOCK_TOKENS, STOCK_DEPTH = 4, 4
"""Stock diffusers reads the plain form with this many tokens, and the Plus form with this many layers."""


def import_file(file: str | Path, backbone: str, encoder: str, output: str | Path) -> ImagePrompt:
    """Make a run folder of a public file.

    Args:
        file: ``.safetensors`` or ``.bin``.
        backbone: Folder or hub name of the base model.
        encoder: Folder or hub name of the CLIP, or the face pack of a FaceID.
        output: The run folder; it must not hold a run.

    Raises:
        LikenessError: file, base model and encoder do not fit together, or one cannot be read.
    """
    file, output = Path(file), Path(output)
    if (output / "config.yaml").exists():
        raise LikenessError(f"--output {str(output)!r} holds a run: name another folder")
    tensors = read_public(file)
    base = load_backbone(backbone)
    width, expected = _size(tensors, "ip_adapter.1.to_k_ip.weight", 1, file), base.unet.config.cross_attention_dim
    if width != expected:
        what = {2048: ", it is a file for SDXL", 768: ", it is a file for SD 1.x"}.get(width, "")
        raise LikenessError(f"{str(file)!r} has tokens of {width} numbers{what}; those of {backbone} have {expected}")
    kind, arguments = _kind(tensors, file)
    settings = {"recogniser": encoder, "detector": encoder} if kind is IPAdapterFaceID else {"encoder": encoder}
    feature_name = kind.needs[0]
    context = EncoderContext(backbone, base.resolution)
    feature = make_features([feature_name], {feature_name: settings}, context)[feature_name]
    if kind is IPAdapterPlus:
        arguments["image_tokens"] = feature.shape[0]
    module = kind(base, **arguments)
    module.check_features(lambda _: feature.shape)
    state = module.adapter().state_dict()
    names = public_names(base.unet, state)
    if wrong := misfit({public: state[ours] for ours, public in names.items()}, tensors):
        raise LikenessError(f"{str(file)!r} does not fit {backbone}: {wrong}")
    found = {ours: tensors[public] for ours, public in names.items()}
    if isinstance(module, IPAdapterPlus):
        found["blank"] = feature.nothing()
    module.adapter().load_state_dict(found)
    features = {feature_name: settings}
    config = {
        "model": {"class_path": f"lightning_modules.{kind.__name__}", "init_args": {"backbone": backbone, **arguments}},
        "data": {"backbone": backbone, "features": features, "resolution": base.resolution},
    }
    manifest = {
        "method": kind.__name__,
        "trainable_parameters": module.run_facts()["trainable_parameters"],
        "encoders": {feature_name: feature.fingerprint},
        "imported": {"file": file.name, "sha256": file_sha256(file)},
    }
    module.save_adapter(output / "adapter.safetensors")
    write_json(output / "manifest.json", manifest)
    # A folder is a run by this file, so it comes last.
    write_atomically(output / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())
    return module


def export_run(run: str | Path, output: str | Path) -> str:
    """Write a public file of a run, and return how stock diffusers reads it.

    Raises:
        LikenessError: the run is of another method or of sizes that stock diffusers does not read, or the file cannot
            be written.
    """
    module, output = Run.named(str(run)).load(), Path(output)
    if not isinstance(module, ImagePrompt):
        raise LikenessError(f"{str(run)!r} is a run of {type(module).__name__}, which is no IP-Adapter")
    if isinstance(module, IPAdapter) and module.project.tokens != STOCK_TOKENS:
        raise LikenessError(
            f"{str(run)!r} has model.tokens {module.project.tokens}, stock diffusers reads {STOCK_TOKENS}"
        )
    if isinstance(module, IPAdapterPlus) and module.depth != STOCK_DEPTH:
        raise LikenessError(f"{str(run)!r} has model.depth {module.depth}, stock diffusers reads {STOCK_DEPTH}")
    state = module.adapter().state_dict()
    write_public(output, {public: state[ours] for ours, public in public_names(module.backbone.unet, state).items()})
    place = f'"{output.parent}", subfolder="", weight_name="{output.name}"'
    return f"pipe.load_ip_adapter({place}, image_encoder_folder=None); pipe.set_ip_adapter_scale({module.scale})"


def _kind(tensors: Mapping[str, Tensor], file: Path) -> tuple[type[Any], dict[str, Any]]:
    """The method of a file, and the arguments that its shapes say."""

    def size(name: str, axis: int) -> int:
        return _size(tensors, f"image_proj.{name}", axis, file)

    if "image_proj.latents" in tensors:
        depth = len({name.split(".")[2] for name in tensors if name.startswith("image_proj.layers.")})
        own, out = size("proj_in.weight", 0), size("proj_out.weight", 0)
        sizes = {"image_width": size("proj_in.weight", 1), "tokens": size("latents", 1), "depth": depth}
        return IPAdapterPlus, {**sizes, "resampler_width": None if own == out else own}
    tokens = size("norm.weight", 0)
    if "image_proj.proj.weight" in tensors:
        return IPAdapter, {"image_width": size("proj.weight", 1), "tokens": size("proj.weight", 0) // tokens}
    down = tensors.get("ip_adapter.0.to_q_lora.down.weight")
    return IPAdapterFaceID, {
        "face_width": size("proj.0.weight", 1),
        "tokens": size("proj.2.weight", 0) // tokens,
        "lora_rank": None if down is None else len(down),
    }


def _size(tensors: Mapping[str, Tensor], name: str, axis: int, file: Path) -> int:
    """Length of an axis of an entry."""
    value = tensors.get(name, torch.empty(0))
    if value.ndim <= axis or not value.numel():
        raise LikenessError(
            f"{str(file)!r} is no IP-Adapter file that Likeness knows: {name} is missing or of no shape"
        )
    return value.shape[axis]


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python -m tools.ip_adapter", description=(__doc__ or "").splitlines()[0])
    ways = parser.add_subparsers(dest="way", required=True)
    into = ways.add_parser("import", help="make a run folder of a public file")
    into.add_argument("file", help=".safetensors or .bin")
    into.add_argument("--backbone", required=True, help="folder or hub name of the base model")
    into.add_argument("--encoder", required=True, help="folder or hub name of its CLIP, or the face pack of a FaceID")
    into.add_argument("--output", required=True, help="run folder to make")
    out = ways.add_parser("export", help="write a file that pipe.load_ip_adapter reads")
    out.add_argument("--run", required=True, help="run folder of an IP-Adapter")
    out.add_argument("--output", required=True, help="the safetensors file to write")
    given = parser.parse_args(arguments)
    if given.way == "import":
        module = import_file(given.file, given.backbone, given.encoder, given.output)
        print(f"{given.output}: a run of {type(module).__name__}; use --runs {given.output}")
    else:
        print(f"{given.output}: {export_run(given.run, given.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
