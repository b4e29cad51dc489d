"""Train a method.

python train.py --config configs/pocket/spotdiff.yaml
python train.py --config configs/spotdiff.yaml --trainer.devices 8 --model.orthogonality_weight 0.1
"""

import inspect
import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

from contracts.early_check import check_training
from contracts.errors import LikenessError

if __name__ == "__main__":  # before torch is imported, which takes ten seconds
    try:
        check_training(sys.argv[1:], Path(__file__))
    except LikenessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads cost small machines twenty times the work

from jsonargparse.typing import PositiveInt
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch.multiprocessing import ProcessRaisedException

from callbacks.checkpoint_io import DurableCheckpointIO, latest_checkpoint
from callbacks.frozen import FrozenGuard
from callbacks.guards import FiniteLoss, SaveOnSigterm, Throughput
from callbacks.run_folder import RunFolder
from callbacks.validation import ValidationScores
from contracts.lock import folder_lock
from contracts.method_modules import MethodsOption, allow_classes, import_methods, methods_of, refuse_class
from contracts.settings import JudgeSettings
from contracts.suggestions import with_suggestion
from datamodules.batches.experts import ExpertStage
from datamodules.batches.faces import FaceStage, PersonStage
from datamodules.batches.pairs import Drops
from datamodules.batches.subjects import EnrolmentSettings
from datamodules.spotdiff10k import SpotDiff10kDataModule
from datamodules.validation import ValidationSettings
from lightning_modules import PersonalisationModule
from lightning_modules.per_subject import PerSubjectModule
from lightning_modules.run import Run

_DENIED = re.compile(r"Importing '(?P<path>[\w.]+)' is not allowed")

_STAGE_MISTAKE = re.compile(
    r"""key "data.first_stage": .*(?P<mistake>Problem with given .*) - Expected a <class 'None"""
)
"""What the parser finds wrong with a first stage, among its words about types."""


class TrainCLI(LightningCLI):
    """Lightning's command line without its subcommands, which let a checkpoint's settings beat the user's."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--methods", action=MethodsOption)
        parser.add_argument("--output", type=str, required=True, help="run folder; a run that was stopped goes on")
        parser.add_argument(
            "--start_from", type=str | None, default=None, help="run folder whose adapter a new run starts from"
        )
        parser.add_argument("--checkpoint_every", type=PositiveInt, default=500, help="steps between checkpoints")
        parser.add_argument(
            "--judges", type=JudgeSettings | None, default=None, help="folders of the networks that judge validation"
        )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self.config_init
        output, judges = Path(settings.output), settings.judges
        checkpoints = str(output / "checkpoints")
        ours = [
            FiniteLoss(),
            FrozenGuard(),
            Throughput(),
            RunFolder(str(output), self.parser.dump(self.config, skip_none=False)),
            ModelCheckpoint(
                checkpoints,
                save_last=True,
                every_n_train_steps=settings.checkpoint_every,
                save_top_k=0,
                enable_version_counter=False,  # or a start that saves at other steps leaves last.ckpt as it is
            ),
            SaveOnSigterm(checkpoints),
        ]
        if judges is not None:
            ours.append(ValidationScores(**vars(judges)))
        if (precision := settings.trainer.precision) in ("16-true", "bf16-true"):
            raise LikenessError(
                f"trainer.precision {precision} would keep what is trained in 16 bits, where small updates are lost: "
                f"take {precision.removesuffix('true')}mixed"
            )
        given = self._get(self.config_init, "trainer", default={}).get("callbacks") or []
        trainer = super().instantiate_trainer(
            callbacks=[*(given if isinstance(given, list) else [given]), *ours],
            default_root_dir=str(output),
            # Without a version, whose last letters the progress bar would show.
            logger=TensorBoardLogger(str(output / "tensorboard"), name="", version=""),
            plugins=[DurableCheckpointIO()],
            **kwargs,
        )
        if isinstance(trainer.strategy, DDPStrategy):
            # Lightning gives no other way to say these without naming the strategy, which one device would have to
            # carry too. Buffers are the same on all processes from the start, and to send them before every forward
            # pass, as DDP would, needs as many passes of each: shares of the validation may be unequal.
            trainer.strategy._ddp_kwargs.setdefault("broadcast_buffers", False)
            if settings.trainer.strategy == "auto" and not self.model.enrols:
                # A stage trains some of the parts only, and plain DDP would wait for gradients of the others. An
                # enrolment trains all of its tensors in every step.
                trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
        return trainer


def train(arguments: Sequence[str] | None = None) -> Path:
    """Train as the arguments say and return the run folder.

    A run that was stopped goes on from its latest checkpoint, on the batches that follow it.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    check_training(given, Path(__file__))
    import_methods(methods_of(given))
    allow_classes()
    cli = TrainCLI(
        PersonalisationModule,
        SpotDiff10kDataModule,
        subclass_mode_model=True,
        run=False,
        save_config_callback=None,
        seed_everything_default=0,
        parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False, "allow_abbrev": False},
        args=None if arguments is None else given,
    )
    output = Path(cli.config.output)
    with folder_lock(output) if cli.trainer.is_global_zero else nullcontext():
        checkpoint = latest_checkpoint(output / "checkpoints")
        if cli.config.start_from and checkpoint is None:
            cli.model.load_adapter(Run(cli.config.start_from).adapter_file)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True)
    return output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user."""
    try:
        print(f"run folder: {train(arguments)}")
    except ArgumentError as error:
        print(f"error: {parsers_line(error)}", file=sys.stderr)
        return 2
    except SIGTERMException:
        print("stopped: the state is saved; the same command goes on from here", file=sys.stderr)
        return 143
    except Exception as error:
        if (mistake := users_mistake(error)) is None:
            raise
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    return 0


def parsers_line(error: ArgumentError) -> str:
    """What the parser found wrong, on one line. Of subjects it would speak in types: that YAML reads some names as
    numbers is for us to say. Of a class outside the project it does not know what to do about it."""
    if denied := _DENIED.search(str(error)):
        try:
            refuse_class(denied["path"])
        except LikenessError as refused:
            return str(refused)
    if 'key "data.subjects"' in str(error):
        return (
            "data.subjects must be a list of names in brackets; in quotes where one looks like a number or a word of "
            """YAML's such as on or null: --data.subjects '["s0225","10023"]'"""
        )
    found = _STAGE_MISTAKE.search(" ".join(str(error).split()))
    return with_suggestion(f"data.first_stage: {found['mistake']}" if found else str(error), known_keys())


def users_mistake(error: BaseException) -> str | None:
    """The message of the :class:`LikenessError` that ``error`` is or hides: the parser wraps what a constructor raises,
    and a forked process hands over the text of its traceback. Lightning has its own for a trainer that cannot be."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LikenessError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return str(cause)
    if isinstance(error, MisconfigurationException):  # what Lightning finds wrong with the trainer's settings
        return " ".join(str(error).split())
    if isinstance(error, ProcessRaisedException):
        last = str(error).strip().splitlines()[-1]
        prefix = f"{LikenessError.__module__}.{LikenessError.__name__}: "
        return last.removeprefix(prefix) if last.startswith(prefix) else None
    return None


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
    return [
        *keys,
        *(key.rpartition(".")[2] for key in keys),
        "output",
        "start_from",
        "checkpoint_every",
        "judges",
        "methods",
    ]


if __name__ == "__main__":
    sys.exit(main())
