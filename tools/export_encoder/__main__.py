"""Put what SpotDiff or PIDiff makes of a photo into a folder that diffusers reads without Likeness.

    python -m tools.export_encoder --run runs/spotdiff --photo me.jpg --output exported/me

What the folder holds says its README.md. A stock pipeline reads the layers of SpotDiff as a public IP-Adapter. PIDiff's
queries, and identity that begins late, take the small pipeline in the folder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jinja2 import Environment, StrictUndefined
from safetensors.torch import save
from torch import Tensor

from contracts.batch import RequestBatch
from contracts.commands import as_command
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.files import cache_folder, read_file, write_atomically
from contracts.text import Text
from datamodules.features.base import EncoderContext
from datamodules.features.store import Features
from datamodules.processes import Processes
from leaderboard.generate.generation import trained_features
from leaderboard.generate.given_subjects import OwnSubject, subject_in_photos
from lightning_modules import PIDiff, SpotDiff
from lightning_modules.run import Run
from networks.ip_adapter_file import public_names
from networks.residual_attention import ResidualProjections

HERE = Path(__file__).parent
STOCK_TOKENS = 4
"""Stock diffusers reads the plain form of an IP-Adapter with this many tokens."""
Encoder = SpotDiff | PIDiff


@dataclass(frozen=True)
class Identity:
    """What a method makes of a subject's photos."""

    tokens: Tensor
    """(N, D)"""
    nobody: Tensor
    """(N, D): what stands for no photo."""
    scale: float
    until: int
    """It takes part at timesteps below this one."""
    embeds: Tensor | None
    """(1, width): what a public IP-Adapter's projection makes the tokens of; ``None`` where there is no such thing."""


def export_encoder(run: str | Path, photo: str, output: str | Path) -> list[str]:
    """Write the folder, and return the notes on the photos.

    Args:
        photo: ``[NOUN=]FILE``, or ``[NOUN=]FOLDER`` with several photos of one subject, whose tokens are averaged.

    Raises:
        LikenessError: the run is of another method, a photo cannot be used, or the folder holds something else.
    """
    found, output = Run.named(str(run)), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise LikenessError(f"--output {str(output)!r} is not empty: name another folder")
    if not issubclass(found.method, Encoder):
        raise LikenessError(
            f"{str(run)!r} is a run of {found.method.__name__}: tools.ip_adapter exports IP-Adapters, "
            "tools.export_subject what is optimised per subject"
        )
    subject = subject_in_photos(photo)
    module = found.load()
    assert isinstance(module, Encoder)
    identity = identity_of(found, module, subject)
    state = {name.replace("align.", "project.", 1): value for name, value in module.adapter().state_dict().items()}
    names = public_names(module.backbone.unet, state)
    wanted = {n: public for n, public in names.items() if identity.embeds is not None or n.startswith("attention.")}
    about = {"scale": identity.scale, "until": identity.until, "method": type(module).__name__}
    tokens = {"tokens": identity.tokens, "nobody": identity.nobody}
    tokens |= {} if identity.embeds is None else {"embeds": identity.embeds}
    files = {
        "adapter.safetensors": save({public: state[n].cpu().contiguous() for n, public in wanted.items()}),
        "subject.safetensors": save(
            {n: v.cpu().contiguous() for n, v in tokens.items()}, {"identity": json.dumps(about)}
        ),
        "pipeline.py": read_file(HERE / "pipeline.py"),
        "README.md": model_card(found, module, subject, identity).encode(),
    }
    for name, content in files.items():
        write_atomically(output / name, content)
    return list(subject.notes)


@torch.no_grad()
def identity_of(run: Run, module: Encoder, subject: OwnSubject) -> Identity:
    """Tokens of a subject's photos, and of nobody."""
    backbone = module.backbone
    context = EncoderContext(str(run.arguments.get("backbone")), backbone.resolution)
    features = Features(module.needs, trained_features(run), context, cache_folder() / "features", Processes())
    photos = [features.encode_file(module.needs, photo.name, photo.data) for photo in subject.photos]
    text = Text(torch.zeros(1, 1, backbone.unet.config.cross_attention_dim))
    each = [RequestBatch(("r",), (subject.id,), ("",), torch.zeros(1), text, values) for values in photos]
    told, null = (
        Conditioning.of_references([make(one) for one in each], "average")
        for make in (module.conditioning, module.null_conditioning)
    )
    assert told.identity is not None and null.identity is not None
    embeds = None
    if isinstance(module, SpotDiff) and len(photos) == 1 and module.align.tokens == STOCK_TOKENS:
        embeds = module.subject_feature(module.standardise(photos[0]["clip"]))
    return Identity(told.identity[0], null.identity[0], told.scale, told.identity_until, embeds)


def model_card(run: Run, module: Encoder, subject: OwnSubject, identity: Identity) -> str:
    """``README.md`` of the folder: what it is, how to use it, and what it is not for."""
    residual = any(isinstance(layer, ResidualProjections) for layer in module.attention.values())
    reasons = [
        "the identity tokens have queries of their own" if residual else "",
        "several photos were averaged" if len(subject.photos) > 1 else "",
        f"it reads {STOCK_TOKENS} tokens made by one linear map" if identity.embeds is None else "",
    ]
    count = len(subject.photos)
    card = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        (HERE / "card.md").read_text(encoding="utf-8")
    )
    return card.render(
        title=subject.id,
        method=type(module).__name__,
        noun=subject.noun,
        residual=residual,
        count=len(identity.tokens),
        stock=identity.embeds is not None,
        why=next((reason for reason in reasons if reason), ""),
        backbone=module.backbone.fingerprint[:16],
        adapter=run.adapter_sha256[:16],
        photos="one photo" if count == 1 else f"the average of {count} photos",
        scale=identity.scale,
        until=identity.until,
    )


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python -m tools.export_encoder", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, help="run folder of SpotDiff or PIDiff")
    parser.add_argument(
        "--photo", required=True, metavar="[NOUN=]PHOTO", help="a photo, or a folder with several photos of one subject"
    )
    parser.add_argument("--output", required=True, help="the folder to make")
    given = parser.parse_args(arguments)
    for note in export_encoder(given.run, given.photo, given.output):
        print(f"note: {note}")
    print(f"{given.output}: README.md says how to use it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
