"""What an evaluation is configured by. Light on purpose: the command reads these before it loads anything heavy."""

from dataclasses import dataclass, field


@dataclass
class ProtocolSettings:
    """The fixed list of requests and how they are generated.

    Args:
        prompts: YAML file with prompts, see ``configs/prompts``.
        backbone: Folder (or hub name) of the base model that every method was trained on.
        resolution: Side of a generated image in pixels.
        dataset: Dataset with subjects: ``pocket10k``, a folder or a hub dataset of the schema.
        subjects: How many test subjects to take, in sorted order, or their names.
        samples: Images per subject and prompt.
        sampler: Name of the sampler.
        steps: Sampler steps.
        guidance: Classifier-free guidance scale.
        seed: Start of every noise key.
    """

    prompts: str
    backbone: str
    resolution: int
    dataset: str = "pocket10k"
    subjects: int | list[str] = 12
    samples: int = 2
    sampler: str = "dpm-solver++"
    steps: int = 12
    guidance: float = 3.0
    seed: int = 0


@dataclass
class JudgeSettings:
    """The networks that judge.

    Args:
        faces: Face pack; take another one than a method is conditioned on.
        clip: CLIP folder for prompt fit, likeness of images and diversity.
        second_faces: Face pack for a second opinion on the faces that the first one found.
        image_backbone: Folder of an image model in the form of transformers, such as DINO, for likeness of images.
        lpips: File with LPIPS weights, for the distance between samples.
    """

    faces: str
    clip: str
    second_faces: str | None = None
    image_backbone: str | None = None
    lpips: str | None = None


@dataclass
class ProcessSettings:
    """Processes and devices, with the meaning that Lightning gives to these names.

    Args:
        devices: Processes on this machine, one device each.
        accelerator: Kind of device.
        strategy: How processes start; ``auto`` forks on a CPU.
        num_nodes: Machines.
        precision: Numbers that the networks compute in.
        timeout: Seconds after which a process that does not answer ends the others.
    """

    devices: int | str = 1
    accelerator: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    precision: str = "32-true"
    timeout: int = 1800


@dataclass
class EvaluationSettings:
    """Everything that ``evaluate.py`` needs besides the runs.

    Args:
        limit: Quick look: generate only so many images per entry. The protocol gets a hash of its own, and every table
            says so.
    """

    protocol: ProtocolSettings
    judges: JudgeSettings
    trainer: ProcessSettings = field(default_factory=ProcessSettings)
    batch_size: int = 16
    limit: int | None = None
