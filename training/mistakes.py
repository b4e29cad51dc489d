"""What a user is told: one line, whatever was raised and however many libraries wrapped it."""

import inspect
import multiprocessing.connection
import multiprocessing.resource_sharer
import re
import traceback
from argparse import ArgumentError
from collections.abc import Iterator
from dataclasses import fields
from typing import cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf.errors import OmegaConfBaseException
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from contracts.errors import LikenessError
from contracts.method_modules import refuse_class
from contracts.roll_call import SilentRank
from contracts.suggestions import with_suggestion
from datamodules.batches.experts import ExpertStage
from datamodules.batches.faces import FaceStage, PersonStage
from datamodules.batches.pairs import Drops
from datamodules.batches.subjects import EnrolmentSettings
from datamodules.spotdiff10k import SpotDiff10kDataModule
from datamodules.validation import ValidationSettings
from lightning_modules import PersonalisationModule
from lightning_modules.per_subject import PerSubjectModule
from training.cli import TrainCLI

_GOES_ON = "the same command goes on from what is saved"
_LOADER_GONE = (
    f"a loader process was killed, as systems do where memory runs out: give a lower data.num_workers; {_GOES_ON}"
)

_DENIED = re.compile(r"Importing '(?P<path>[\w.]+)' is not allowed")
_STAGE = re.compile(r"""key "data.first_stage": .*(?P<mistake>Problem with given .*) - Expected a <class 'None""")
"""What the parser finds wrong with a first stage, among its words about types."""
_OPTIMISER = re.compile(r"(?:--|')(optimizer|lr_scheduler)\b")
_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:exited unexpectedly|is killed)")
_PIPES = (multiprocessing.connection.__file__, multiprocessing.resource_sharer.__file__)
_PEER = re.compile(r"Connection (?:closed|reset) by peer|Broken pipe|Socket closed|ncclRemoteError|NCCL.*remote")
_MEMORY = re.compile(r"out of memory", re.IGNORECASE)
_SYSTEM = re.compile(r"(?:\w+Error): (?P<reason>\[Errno \d+\] .*)")


def one_line(error: BaseException) -> str | None:
    """What is wrong, for what a user can mend; ``None`` for a fault of ours."""
    if isinstance(error, ArgumentError):
        return _parsers_line(error)
    causes = list(_causes(error))
    # torch says it at whatever line is being run, in the middle of writing a checkpoint too.
    if any(type(cause) is RuntimeError and _of_a_gone_loader(cause) for cause in causes):
        return _LOADER_GONE
    for cause in causes:
        if isinstance(cause, LikenessError):
            return str(cause)
    if isinstance(error, ProcessExitedException):
        how = f"was ended by {error.signal_name}" if error.signal_name else f"ended with exit code {error.exit_code}"
        return f"process {error.error_index} of this run {how}; {_GOES_ON}"
    if isinstance(error, MisconfigurationException | OmegaConfBaseException):
        return " ".join(str(error).split())
    for cause in causes:
        if _of_a_gone_loader(cause):
            return _LOADER_GONE
        if isinstance(cause, OSError) and cause.strerror:
            return " ".join(f"{cause.strerror}: {cause.filename2 or cause.filename or 'a file'}; {_GOES_ON}".split())
    text = str(error).strip().splitlines()[-1] if isinstance(error, ProcessRaisedException) else str(error)
    return _from_text(text, torch.OutOfMemoryError in map(type, causes))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from; the parser wraps what a constructor raises, and torch what the system says."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_a_gone_loader(error: BaseException) -> bool:
    """Whether a loader process went away: in torch's words, or in the system's where its batch was just being fetched.

    torch gives its words only where it already finds the process dead; a moment earlier the connection breaks first.
    """
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    fetching = any(name.endswith("torch/utils/data/dataloader.py") for name in files)
    broken = fetching and isinstance(error, OSError | EOFError) and files[-1] in _PIPES
    return broken or bool(_WORKER.search(str(error)))


def _from_text(text: str, out_of_memory: bool) -> str | None:
    """A forked process hands over the text of its traceback, and libraries have one class for all that goes wrong."""
    for ours in (f"{kind.__module__}.{kind.__name__}: " for kind in (LikenessError, SilentRank)):
        if text.startswith(ours):
            return text.removeprefix(ours)
    if out_of_memory or _MEMORY.search(text):
        return (
            "the device has not enough memory: lower data.batch_size and raise trainer.accumulate_grad_batches, or "
            f"take more devices ({' '.join(text.split())[:200]})"
        )
    if _PEER.search(text):
        return f"another process of this run is gone, its own message says why; {_GOES_ON}"
    if found := _SYSTEM.match(text):
        return f"{found['reason']}; {_GOES_ON}"
    return None


def _parsers_line(error: ArgumentError) -> str:
    """What the parser found wrong, on one line. Of subjects it would speak in types: that YAML reads some names as
    numbers is for us to say. Of a class outside the project it does not know what to do about it."""
    text = str(error)
    if denied := _DENIED.search(text):
        try:
            refuse_class(denied["path"])
        except LikenessError as refused:
            return str(refused)
    if 'key "data.subjects"' in text:
        return (
            "data.subjects must be a list of names in brackets; in quotes where one looks like a number or a word of "
            """YAML's such as on or null: --data.subjects '["s0225","10023"]'"""
        )
    if found := _OPTIMISER.search(text):
        return (
            f"{found[1]} is refused: a method has an optimiser and a schedule of its own, for what it trains alone; "
            "set model.learning_rate, model.weight_decay and model.warmup_steps"
        )
    stage = _STAGE.search(" ".join(text.split()))
    return with_suggestion(f"data.first_stage: {stage['mistake']}" if stage else text, known_keys())


def known_keys() -> list[str]:
    """Every key of the configuration of the shipped methods, for the suggestion after a misspelt one."""
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(SpotDiff10kDataModule, "data")
    keys = [action.dest for action in parser._actions]
    for part, settings in (("enrolment", EnrolmentSettings), ("drops", Drops), ("validation", ValidationSettings)):
        keys += [f"data.{part}.{field.name}" for field in fields(settings)]
    for stage in (ExpertStage, FaceStage, PersonStage):
        keys += [f"data.first_stage.init_args.{field.name}" for field in fields(stage)]
    for method in (*PersonalisationModule.__subclasses__(), *PerSubjectModule.__subclasses__()):
        keys += [f"model.{name}" for name in inspect.signature(method).parameters]
    own = LightningArgumentParser()
    TrainCLI.add_arguments_to_parser(cast(TrainCLI, None), own)  # it looks at nothing of itself
    return [*keys, *(key.rpartition(".")[2] for key in keys), *(action.dest for action in own._actions)]
