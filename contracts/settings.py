"""What an evaluation is configured by. Light on purpose: the command reads these before it loads anything heavy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from contracts.errors import LikenessError

ReferenceTokens = Literal["average", "all"]
"""What becomes of the identity tokens of several photos: their mean, or all of them side by side."""

DETECTION_SIDES = (128, 640)
"""Sides of the square that an image is fitted into for face detection, in pixels: insightface's own two."""


def detection_sides(given: int | Sequence[int], key: str) -> tuple[int, ...]:
    """The sides in ascending order, from one number or several; raises ``LikenessError`` that names ``key``."""
    sides = [given] if isinstance(given, int) else list(given)
    if not sides or any(type(side) is not int or side <= 0 or side % 32 for side in sides):
        raise LikenessError(f"{key} is {given}: give one or more positive multiples of 32, such as [128, 640]")
    return tuple(sorted(set(sides)))


@dataclass
class ProtocolSettings:
    """The fixed list of requests and how they are generated.

    Args:
        prompts: YAML file with prompts, see ``configs/prompts``; or DreamBench's ``prompts_and_classes.txt``.
        backbone: Folder (or hub name) of the base model that every method was trained on; null where all images are
            made elsewhere.
        resolution: Side of a generated image in pixels.
        dataset: Dataset with subjects: ``pocket10k``, a folder or a hub dataset of the schema, or the DreamBooth data
            set's folder.
        subjects: How many test subjects to take, in sorted order, or their names; null for all.
        faceless: Class nouns of subjects that have no face, whatever the dataset says.
        live: Class nouns whose subjects get the live subjects' prompts of ``prompts_and_classes.txt``.
        samples: Images per subject and prompt.
        sampler: Name of the sampler.
        steps: Sampler steps.
        guidance: Classifier-free guidance scale.
        seed: Start of every noise key.
        negative_prompt: What guidance leads away from, instead of the empty text.
        references: Photos of each subject that a method sees.
        reference_tokens: What encoders do with the tokens of several references: ``average`` is their mean, ``all`` is
            all of them side by side.
        nobody: YAML file with prompts that name nobody, for the columns of drift; null for none.
    """

    prompts: str
    backbone: str | None
    resolution: int
    dataset: str = "pocket10k"
    subjects: int | list[str] | None = 12
    faceless: list[str] = field(default_factory=list)
    live: list[str] = field(default_factory=list)
    samples: int = 2
    sampler: str = "dpm-solver++"
    steps: int = 12
    guidance: float = 3.0
    seed: int = 0
    negative_prompt: str | None = None
    references: int = 1
    reference_tokens: ReferenceTokens = "average"
    nobody: str | None = None


@dataclass
class JudgeSettings:
    """The networks that judge.

    Args:
        faces: Face pack; take another one than a method is conditioned on.
        clip: CLIP folder for prompt fit, likeness of images and diversity.
        second_faces: Face pack for a second opinion on the faces that the first one found.
        image_backbone: Folder of an image model in the form of transformers, such as DINO, for likeness of images.
        lpips: File with LPIPS weights, for the distance between samples.
        segmenter: File of a segmentation model in ONNX form, which says what of a picture is the object, for likeness
            to subjects without a face. Without it whole images are compared.
        det_size: Sides in pixels at which faces are looked for: small ones are seen at the large side only, and one
            that fills the frame at the small side.
    """

    faces: str
    clip: str
    second_faces: str | None = None
    image_backbone: str | None = None
    lpips: str | None = None
    segmenter: str | None = None
    det_size: int | list[int] = field(default_factory=lambda: list(DETECTION_SIDES))

    def __post_init__(self) -> None:
        detection_sides(self.det_size, "judges.det_size")

    @property
    def sources(self) -> dict[str, str]:
        """Where each network lies that is configured, by its key."""
        return {key: source for key, source in vars(self).items() if key != "det_size" and source}


PRECISIONS = ("auto", "32-true", "tf32", "16-mixed", "bf16-mixed")
"""What methods generate in. What was trained stays in float32 where nothing rounds it, so none of Lightning's other
choices fits."""


@dataclass
class ProcessSettings:
    """Processes and devices, with the meaning that Lightning gives to these names.

    Args:
        devices: Processes on this machine, one device each.
        accelerator: Kind of device.
        strategy: How processes start; ``auto`` forks on a CPU.
        num_nodes: Machines.
        precision: Numbers that images are generated in, one of ``PRECISIONS``: ``auto`` is bf16-mixed on GPUs that
            have it and 32-true elsewhere. Judges compute in float32 whatever it is.
        timeout: Seconds after which a process that does not answer ends the others.
    """

    devices: int | str = 1
    accelerator: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    precision: str = "auto"
    timeout: int = 1800


@dataclass
class Contestants:
    """Who takes part in an evaluation, beside floor and ceiling.

    Args:
        runs: Run folders, each as ``FOLDER`` or ``LABEL=FOLDER``; those of one label are trainings of one method.
        images: Folders of images that another program made, likewise.
        allow_missing: Share of the requests, 0 to 1, that such a folder may lack.
        loras: Folders of LoRAs that another program trained, likewise.
        sweep: Values, such as ``0.2,0.4``, at which every run and folder of LoRAs generates besides its own.
    """

    runs: Sequence[str] = ()
    images: Sequence[str] = ()
    allow_missing: float = 0.0
    loras: Sequence[str] = ()
    sweep: str = ""


@dataclass
class EvaluationSettings:
    """Everything that ``evaluate.py`` needs besides the runs.

    Args:
        limit: Quick look: generate only so many images per entry. The protocol gets a hash of its own, and every table
            says so.
        compile: Compile the base model's repeated blocks, see ``networks.compiling``.
    """

    protocol: ProtocolSettings
    judges: JudgeSettings
    trainer: ProcessSettings = field(default_factory=ProcessSettings)
    batch_size: int = 16
    limit: int | None = None
    compile: bool = False


@dataclass
class GenerationSettings:
    """How ``generate.py`` generates images, of whatever subjects and by whatever runs.

    Args:
        samples: Images per subject and prompt.
        seed: Start of every noise key; the same seed gives the same images.
        sampler: Name of the sampler.
        steps: Sampler steps.
        guidance: Classifier-free guidance scale.
        negative_prompt: What guidance leads away from, instead of the empty text.
        scale: Strength of the identity, instead of each run's own; 0 is the base model.
        enrol_steps: Steps to enrol a subject with, where a method optimises per subject, instead of the run's own.
        backbone: Folder or hub name of the base model, where it is not the one that the run names.
        batch_size: Images per batch.
        device: Kind of device: auto, cpu, cuda or mps.
        precision: Numbers that images are generated in, one of ``PRECISIONS``: ``auto`` is bf16-mixed on GPUs that
            have it and 32-true elsewhere.
        compile: Compile the base model's repeated blocks, see ``networks.compiling``.
        references: Photos of each subject that every run sees. Where it is not said, an encoder reads one, and a method
            that optimises per subject learns from all that are given.
        reference_tokens: What encoders do with the tokens of several photos: ``average`` is their mean, ``all`` is all
            of them side by side.
        arguments: Other arguments of the method instead of the run's own, by name.
    """

    samples: int = 4
    seed: int = 0
    sampler: str = "dpm-solver++"
    steps: int = 12
    guidance: float = 3.0
    negative_prompt: str | None = None
    scale: float | None = None
    enrol_steps: int | None = None
    backbone: str | None = None
    batch_size: int = 16
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    references: int | None = None
    reference_tokens: ReferenceTokens = "average"
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size", "enrol_steps", "references"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LikenessError(f"--{name} is {value}, it must be at least 1")
        if self.precision not in PRECISIONS:
            raise LikenessError(f"--precision is {self.precision!r}, it must be one of {', '.join(PRECISIONS)}")
