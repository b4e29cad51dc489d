"""Stage 1: every request of the plan becomes one PNG, generated once, whatever the number of processes.

Requests are cut into batches by the plan alone. A process generates whole batches, so an image is computed beside the
same neighbours on 1, 2 or 8 processes and after an interruption; only files that are missing are written.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol as Interface

import numpy as np
from lightning.fabric import Fabric
from numpy.typing import NDArray
from tqdm import tqdm

from contracts.errors import LikenessError
from contracts.protocol import Protocol
from contracts.records import Request
from leaderboard.processes import on_first, together
from leaderboard.results.folder import Entry, EntryFolder
from leaderboard.results.image_files import write_image
from leaderboard.results.lines import LineLog
from leaderboard.results.provenance import note_enrolment, note_generation

Batch = Sequence[Request]


class Generator(Interface):
    """Whatever makes the images of an entry."""

    def generate(self, batch: Batch) -> NDArray[np.uint8]:
        """RGB images (B, H, W, 3) for B requests."""

    def enrol_seconds(self) -> float | None:
        """Seconds to make what it needs of a subject, measured now; ``None`` where it needs nothing."""

    def provenance(self, request: Request) -> dict[str, object]:
        """What the image's file says about how it was made."""


def cut_into_batches(requests: Sequence[Request], size: int) -> list[Batch]:
    """The plan's batches: a function of the plan and the size, never of what is done or of who does it."""
    return [requests[first : first + size] for first in range(0, len(requests), size)]


def generate(
    fabric: Fabric,
    protocol: Protocol,
    entry: Entry,
    folder: EntryFolder,
    make_generator: Callable[[], Generator],
    batch_size: int,
) -> int:
    """Generate what is missing; every process must call this, also one that will have nothing to generate.

    Returns:
        How many images were missing.

    Raises:
        LikenessError: images are of another size than the protocol says, or of other weights or another precision than
            those in the folder.
    """
    on_first(fabric, lambda: folder.claim(entry))
    batches = cut_into_batches(protocol.requests, batch_size)
    # Nobody writes before everybody has looked, or two processes would see different work.
    missing = together(fabric, lambda: {r.id for r in protocol.requests if not folder.image(r.id).is_file()})
    if missing:
        begun = len(missing) < len(protocol.requests)
        precision, device = str(fabric.strategy.precision.precision), fabric.device.type
        on_first(fabric, lambda: note_generation(folder, entry, batch_size, precision, device, begun))
        generator = make_generator()
        on_first(fabric, lambda: note_enrolment(folder, entry, generator.enrol_seconds))
        unfinished = [batch for batch in batches if any(r.id in missing for r in batch)]
        mine = unfinished[fabric.global_rank :: fabric.world_size]
        together(fabric, lambda: _generate_share(fabric, protocol, entry, folder, generator, mine))
    on_first(fabric, lambda: _check_ids(protocol, folder))
    return len(missing)


def _generate_share(
    fabric: Fabric,
    protocol: Protocol,
    entry: Entry,
    folder: EntryFolder,
    generator: Generator,
    batches: Sequence[Batch],
) -> None:
    side = protocol.resolution
    images_here = sum(len(batch) for batch in batches)
    with (
        LineLog(folder.timing_log(fabric.global_rank)) as log,
        tqdm(total=images_here, desc=f"generate {entry.label}", unit="image", disable=fabric.global_rank > 0) as bar,
    ):
        for batch in batches:
            start = time.perf_counter()
            images = generator.generate(batch)
            seconds = time.perf_counter() - start
            if images.shape != (len(batch), side, side, 3):
                raise LikenessError(
                    f"{entry.label} generates images of {images.shape[2]} x {images.shape[1]} pixels, "
                    f"protocol.resolution is {side}"
                )
            for request, image in zip(batch, images, strict=True):
                path = folder.image(request.id)
                if not path.is_file():
                    origin = {"protocol": protocol.hash, "entry": entry.label, "request": request.id}
                    write_image(path, image, {**origin, **generator.provenance(request)})
            log.append([{"images": len(batch), "seconds": round(seconds, 4)}])
            bar.update(len(batch))


def _check_ids(protocol: Protocol, folder: EntryFolder) -> None:
    """Exactly the planned images lie in the folder."""
    planned = {request.id for request in protocol.requests}
    found = {path.stem for path in (folder.root / "images").glob("[!.]*.png")}
    if found != planned:
        odd = sorted(found ^ planned)
        raise LikenessError(
            f"{folder.root / 'images'} does not hold the planned images: {len(planned - found)} missing, "
            f"{len(found - planned)} unknown, such as {odd[0]}"
        )
