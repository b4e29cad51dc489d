"""Make every pocket model again: ``python -m pocket.train``.

Hours on two cores. It can be stopped at any time: the state of each part lies in the work folder and training goes
on from it. The parts are the CLIP, the autoencoder, the base model (UNet and text encoder, on the frozen latents), the
two face packs, the reader of facial parts of the one that judges, and the StyleGAN2 with its e4e; the manifest is
written at the end. On a GPU the parts are trained side by side, as none of them fills it.
"""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from contracts.commands import as_command
from contracts.errors import LikenessError
from pocket.models import paths
from pocket.models.bank import load_bank
from pocket.models.base_model import TrainingData, train_base
from pocket.models.clip import train_clip
from pocket.models.computing import device
from pocket.models.export import export_base, export_clip
from pocket.models.faces import train_judge, train_packs
from pocket.models.manifest import write
from pocket.models.recogniser import train_recogniser
from pocket.models.style import export_style, train_style
from pocket.models.style_views import bank_masks
from pocket.models.tokenizer import build_tokenizer
from pocket.models.vae import encode_bank, train_decoder, train_jointly

SHOTS = 10
PARTS = ("clip", "base", "faces", "judge", "style")


SIDE_BY_SIDE = (("clip",), ("base",), ("faces", "style"), ("judge",))
"""What needs nothing of one another. The W+ pair needs a recogniser."""

_START = "spawn"  # a GPU cannot be used in a fork of a process that uses it


def train_parts(parts: Sequence[str], work: Path) -> None:
    """Train ``parts`` with their state in ``work`` and put the weights where they are shipped."""
    bank = load_bank(work / "bank", shots=SHOTS)
    if "clip" in parts:
        tokenizer = build_tokenizer(bank.captions, work / "tokenizer")
        export_clip(train_clip(bank, SHOTS, tokenizer, work), tokenizer, paths.CLIP)
    if "base" in parts:
        vae = train_jointly(bank, work, until=2215)
        moments = encode_bank(vae, bank, work)
        train_decoder(vae, bank, moments, work, steps=5000)
        tokenizer = build_tokenizer([*bank.captions, *bank.descriptions()], work / "tokenizer_base")
        data = TrainingData(bank, moments, bank_masks(bank, work), vae.config.scaling_factor, tokenizer)
        text_encoder, unet = train_base(data, work)
        export_base(vae, text_encoder, tokenizer, unet, paths.BASE)
    if "faces" in parts:
        train_packs(bank, work, paths.WEIGHTS)
    if "judge" in parts:
        train_judge(bank, work, paths.WEIGHTS)
    if "style" in parts:
        recogniser = train_recogniser(bank, work, "faces_a")  # at once where the packs are trained
        export_style(train_style(bank, work, recogniser), bank, work, paths.STYLE)


def train_side_by_side(parts: Sequence[str], work: Path) -> None:
    """:func:`train_parts`, each of ``SIDE_BY_SIDE`` in a process of its own.

    Raises:
        LikenessError: a process ended with an error; the others end their work first.
    """
    bank_masks(load_bank(work / "bank", shots=SHOTS), work)  # what several of them read
    shares = [share for share in ([part for part in one if part in parts] for one in SIDE_BY_SIDE) if share]
    context: Any = multiprocessing.get_context(_START)
    processes = [context.Process(target=train_parts, args=(share, work), name="+".join(share)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if failed := [process.name for process in processes if process.exitcode]:
        raise LikenessError(
            f"training of {', '.join(failed)} failed, see above; the same command goes on from its state"
        )


@as_command
def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pocket.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, default=Path("pocket/work"), help="folder for the bank and the states")
    arguments = parser.parse_args()
    train = train_parts if device().type == "cpu" else train_side_by_side
    train(arguments.parts, arguments.work)
    write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
