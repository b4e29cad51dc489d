"""Stage 1: who makes the images of an entry, and the loop that keeps each of them once.

An entry's images come from a run's method or from the base model alone, both fed by the same requests, or are photos
(``photos.py``). Requests are cut into batches by the plan alone. A process generates whole batches, so an image is
computed beside the same neighbours on 1, 2 or 8 processes and after an interruption; only files that are missing are
written.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from contracts.batch import RequestBatch
from contracts.conditioning import Conditioning
from contracts.errors import LikenessError
from contracts.files import cache_folder
from contracts.prompts import spoken
from contracts.protocol import Protocol
from contracts.records import Request
from datamodules.features.base import EncoderContext
from datamodules.features.cache import content_key
from datamodules.features.registry import Settings, make_features, run_features
from datamodules.features.store import Features
from datamodules.processes import Processes
from datamodules.requests import RequestLoader, reference_name, seconds_to_encode
from leaderboard.generate.memory import peak_memory
from leaderboard.processes import on_first, together
from leaderboard.results.anchors import shows_photo
from leaderboard.results.entry import Entry
from leaderboard.results.folder import EntryFolder
from leaderboard.results.image_files import ImageWriter
from leaderboard.results.lines import LineLog
from leaderboard.results.provenance import note_costs, note_enrolment, note_generation
from lightning_modules.base import PersonalisationModule
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.run import Run
from networks.backbone import lay_out_for, load_backbone
from networks.compiling import compile_blocks
from networks.precision import AUTOCAST, TF32, hold_frozen, tf32
from networks.sampler import SamplingSettings

Batch = Sequence[Request]


class Generator(Interface):
    """Whatever makes the images of an entry."""

    def prepare(self, batch: Batch) -> Any:
        """What :meth:`generate` takes for B requests. Called in a thread, while the batch before is generated."""

    def generate(self, prepared: Any) -> NDArray[np.uint8]:
        """RGB images (B, H, W, 3)."""

    def enrol_seconds(self) -> float | None:
        """Seconds to make what it needs of a subject, measured now; ``None`` where it needs nothing."""

    def kept_bytes(self) -> int | None:
        """Size of what it keeps of a subject, in bytes; ``None`` where it keeps nothing."""

    def provenance(self, request: Request) -> dict[str, object]:
        """What the image's file says about how it was made."""


class PromptOnly(PersonalisationModule):
    """The stock base model, which reads words where a method puts the subject: for the floor the class noun alone."""

    def conditioning(self, batch: RequestBatch) -> Conditioning:
        """Text alone."""
        return Conditioning.from_text(batch.text_states)

    def null_conditioning(self, batch: RequestBatch) -> Conditioning:
        """The empty text."""
        empty = self.backbone.encode_text([""])
        return Conditioning.from_text(empty.expand(len(batch.prompts)))

    def denoise(self, z: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The stock UNet: its attention processors know no conditioning but text."""
        return self.backbone.unet(z, t, **conditioning.at(t).for_unet(), return_dict=False)[0]


class ModelGenerator:
    """Generates requests with a module. Making one is collective: processes share the encoding of texts and photos.

    ``photos`` holds the files of each subject's reference photos, of which all have equally many, ``features`` how the
    module's features are made of them.
    ``nouns`` says what prompts call each subject, where that is more than the class noun. In 16 bits, ``precision``,
    weights lie in them: none is cast in any step.
    """

    def __init__(
        self,
        fabric: Fabric,
        protocol: Protocol,
        photos: Mapping[str, Sequence[bytes]],
        backbone: str,
        make_module: Callable[[], PersonalisationModule],
        features: Settings,
        precision: str,
        nouns: Mapping[str, str] | None = None,
        compiled: bool = False,
    ) -> None:
        self._fabric, self._protocol, self._precision = fabric, protocol, precision

        def load() -> PersonalisationModule:
            module = make_module()
            if module.backbone.fingerprint != protocol.backbone:
                raise LikenessError(
                    f"the run was trained on base model {module.backbone.fingerprint[:12]}, the protocol "
                    f"says {str(protocol.backbone)[:12]} (key protocol.backbone)"
                )
            return module

        self._module = module = together(fabric, load)
        self._nouns = nouns or protocol.subjects
        negative = protocol.negative_prompt or ""
        module.sampling = SamplingSettings(protocol.sampler, protocol.steps, protocol.guidance, negative)
        module.reference_tokens = protocol.reference_tokens or "average"
        module.to(fabric.device).eval().requires_grad_(False)
        files = {content_key(data): (reference_name(s), data) for s, own in photos.items() for data in own}
        self._keys = {
            subject: [dict.fromkeys(module.needs, content_key(data)) for data in own] for subject, own in photos.items()
        }
        context = EncoderContext(backbone, protocol.resolution, fabric.device)
        context.lend(load_backbone, backbone, module.backbone)
        folder, names = cache_folder() / "features", ["text", *module.needs]
        self._photos = photos
        self._features = Features(names, features, context, folder, _processes(fabric))
        self._features.fill_texts([spoken(r.prompt, r.subject, self._nouns) for r in protocol.requests])
        self._features.fill_files(module.needs, files)
        context.release()
        # From here on the base model computes as images are generated; features are encoded in float32.
        if (dtype := AUTOCAST.get(precision)) is not None:
            hold_frozen(module, dtype)
        lay_out_for(module.backbone, fabric.device)
        if compiled:
            compile_blocks(module.backbone.unet)

    def prepare(self, batch: Sequence[Request]) -> RequestBatch:
        """Features, texts and noise."""
        needs, seed = self._module.needs, self._protocol.seed
        (read,) = RequestLoader(batch, self._features, self._keys, self._nouns, needs, seed, len(batch))
        return read.pin_memory() if self._fabric.device.type == "cuda" else read

    def generate(self, prepared: RequestBatch) -> NDArray[np.uint8]:
        """RGB images (B, H, W, 3)."""
        with self._fabric.autocast(), tf32(self._precision == TF32), torch.inference_mode():
            return self._module.predict_step(prepared.to(self._fabric.device), 0).cpu().numpy()

    def enrol_seconds(self) -> float | None:
        """Median seconds to encode one subject's reference photo; ``None`` for a module that needs none."""
        needs = self._module.needs
        seconds = seconds_to_encode(self._features, needs, self._photos) if needs else None
        self._features.context.release()
        return seconds

    def kept_bytes(self) -> int | None:
        """What was learnt of a subject, or the features of its photo; float32."""
        if isinstance(self._module, PerSubjectModule):
            sizes = [tensor.numel() for tensor in self._module.subjects[next(iter(self._photos))].values()]
        else:
            sizes = [math.prod(self._features.shape(name)) for name in self._module.needs]
        return 4 * sum(sizes) or None

    def provenance(self, request: Request) -> dict[str, object]:
        """Says that a model generated the image, and how; and what stood for the subject, if not the class noun."""
        noun = self._nouns[request.subject]
        told = {} if noun == self._protocol.subjects[request.subject] else {"told": noun}
        return {**how_generated(self._protocol, request), **told}


def how_generated(protocol: Protocol, request: Request) -> dict[str, object]:
    """What the file of a generated image says: that it is synthetic, what it shows, and what the protocol decides."""
    how: dict[str, object] = {"sampler": protocol.sampler, "steps": protocol.steps, "guidance": protocol.guidance}
    how |= {"negative_prompt": protocol.negative_prompt} if protocol.negative_prompt else {}
    how |= {"seed": protocol.seed, "backbone": protocol.backbone}
    return {"synthetic": True, "subject": request.subject, "prompt": request.prompt, **how}


def trained_features(run: Run) -> Settings:
    """The settings of the features that a run was trained with, by its ``config.yaml``.

    Raises:
        LikenessError: the run has no readable ``config.yaml``, or an encoder (or its aligner) is another one by now.
    """
    settings = run_features(run.data)
    trained = run.manifest.get("encoders") or {}
    if not isinstance(trained, dict):
        raise LikenessError(f"{run.manifest_file}: encoders is {trained!r}, not a fingerprint by feature")
    known = [name for name in settings if name in trained]
    context = EncoderContext("", run.data.get("resolution", 512))
    for name, feature in make_features(known, settings, context).items():
        if trained[name] != feature.fingerprint:
            raise LikenessError(
                f"run {run} was trained on {name!r} features of another encoder or aligner than "
                f"{', '.join(map(str, settings[name].values()))} is now: train it again"
            )
    return settings


def _processes(fabric: Fabric) -> Processes:
    return Processes(
        rank=fabric.global_rank,
        count=fabric.world_size,
        local_rank=fabric.local_rank,
        local_count=int(getattr(fabric.strategy, "num_processes", 1)),
        device=fabric.device,
    )


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
    precision: str,
    compiled: bool,
) -> int:
    """Generate what is missing; every process must call this, also one that will have nothing to generate.

    Returns:
        How many images were missing.

    Raises:
        LikenessError: images are of another size than the protocol says, or of other weights or another precision than
            those in the folder, or another precision than the other entries.
    """
    on_first(fabric, lambda: folder.claim(entry))
    batches = cut_into_batches(protocol.requests, batch_size)
    # Nobody writes before everybody has looked, or two processes would see different work.
    missing = together(fabric, lambda: {r.id for r in protocol.requests if not folder.image(r.id).is_file()})
    if missing:
        begun = len(missing) < len(protocol.requests)
        device = fabric.device.type
        on_first(fabric, lambda: note_generation(folder, entry, batch_size, precision, device, begun, compiled))
        generator = make_generator()
        on_first(fabric, lambda: _enrol(fabric, entry, folder, generator))
        unfinished = [batch for batch in batches if any(r.id in missing for r in batch)]
        mine = unfinished[fabric.global_rank :: fabric.world_size]
        with peak_memory(fabric.device) as peak:
            together(fabric, lambda: _write_share(fabric, protocol, entry, folder, generator, mine))
            if not shows_photo(entry.kind):
                on_first(fabric, lambda: note_costs(folder, generate_peak_memory_bytes=peak()))
    on_first(fabric, lambda: _check_ids(protocol, folder))
    return len(missing)


def _enrol(fabric: Fabric, entry: Entry, folder: EntryFolder, generator: Generator) -> None:
    """Note what it costs to enrol a subject."""
    kept = generator.kept_bytes()
    with peak_memory(fabric.device) as peak:
        note_enrolment(folder, entry, generator.enrol_seconds)
        note_costs(folder, kept_bytes=kept, enrol_peak_memory_bytes=peak() if kept else None)


def images_of(
    generator: Generator, batches: Sequence[Batch], label: str, side: int, quiet: bool = False
) -> Iterator[tuple[Batch, NDArray[np.uint8], float]]:
    """Generate batch after batch under a progress bar; the next one is prepared meanwhile.

    Yields:
        A batch, its images (B, side, side, 3) RGB and the seconds that they took.

    Raises:
        LikenessError: the images have another size.
    """
    bar = tqdm(total=sum(map(len, batches)), desc=f"generate {label}", unit="image", disable=quiet)
    with bar, ThreadPoolExecutor(1) as ahead:
        coming = [ahead.submit(generator.prepare, batch) for batch in batches[:1]]
        for number, batch in enumerate(batches):
            start = time.perf_counter()
            prepared = coming.pop().result()
            coming += [ahead.submit(generator.prepare, after) for after in batches[number + 1 : number + 2]]
            images = generator.generate(prepared)
            seconds = time.perf_counter() - start
            if images.shape != (len(batch), side, side, 3):
                raise LikenessError(
                    f"{label} generates images of {images.shape[2]} x {images.shape[1]} pixels, "
                    f"protocol.resolution is {side}"
                )
            yield batch, images, seconds
            bar.update(len(batch))


def _write_share(
    fabric: Fabric,
    protocol: Protocol,
    entry: Entry,
    folder: EntryFolder,
    generator: Generator,
    batches: Sequence[Batch],
) -> None:
    """Files are written in threads while the next batch is generated; a batch is logged once they are there."""
    with LineLog(folder.timing_log(fabric.global_rank)) as log, ImageWriter() as writer:
        lines = list[dict]()
        share = images_of(generator, batches, entry.label, protocol.resolution, quiet=fabric.global_rank > 0)
        for batch, images, seconds in share:
            writer.finish()
            log.append(lines)
            lines = [{"images": len(batch), "seconds": round(seconds, 4)}]
            for request, image in zip(batch, images, strict=True):
                path = folder.image(request.id)
                if not path.is_file():
                    origin = {"protocol": protocol.hash, "entry": entry.label, "request": request.id}
                    writer.write(path, image, {**origin, **generator.provenance(request)})
        writer.finish()
        log.append(lines)


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
