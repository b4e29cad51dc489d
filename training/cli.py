"""The command line of ``train.py``: what may be given, and the trainer, callbacks and checks of a run."""

from pathlib import Path
from typing import Any

import yaml
from jsonargparse.typing import PositiveInt, restricted_number_type
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import DDPStrategy

from callbacks.checkpoints import Checkpoints
from callbacks.progress import StepBar
from callbacks.validation import ValidationScores, validation_metrics
from contracts.errors import LikenessError
from contracts.method_modules import MethodsOption
from contracts.search import search_facts
from contracts.settings import JudgeSettings
from contracts.suggestions import nearest
from networks.backbone import backbone_fingerprint
from networks.checkpointing import checkpoint_blocks
from networks.compiling import compile_blocks
from networks.optimiser import check_8_bits
from training.nulls import refuse_nulls
from training.resuming import finished_step, prepare
from training.trainer import RunTrainer, callbacks_of_every_run
from training.trainer_settings import given_callbacks, honoured

KeptAdapters = restricted_number_type("KeptAdapters", int, [("==", -1), (">=", 1)], join="or")


class TrainCLI(LightningCLI):
    """Lightning's command line without its subcommands, which let a checkpoint's settings beat the user's."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--methods", action=MethodsOption)
        parser.add_argument("--output", type=str, required=True, help="run folder; a run that was stopped goes on")
        parser.add_argument(
            "--start_from",
            type=str | None,
            default=None,
            help="run folder, or FOLDER@STEP, whose adapter a new run starts from",
        )
        parser.add_argument(
            "--search",
            type=str | None,
            default=None,
            help="search.json of tools.search whose best trial has the settings of this run; without it the run counts "
            "as tuned by hand",
        )
        parser.add_argument("--checkpoint_every", type=PositiveInt, default=500, help="steps between checkpoints")
        parser.add_argument(
            "--checkpoint_best",
            type=str | None,
            default=None,
            help="metric of the validation, such as identity_misses_zero: the run ends with the adapter that did best "
            "by it, in place of the last one",
        )
        parser.add_argument(
            "--keep_adapters",
            type=KeptAdapters,
            default=5,
            help="how many adapters of checkpoints stay, the newest ones, at least 1; -1 keeps all",
        )
        parser.add_argument(
            "--rank_timeout",
            type=PositiveInt,
            default=1800,
            help="seconds after which a process that does not answer ends the others",
        )
        parser.add_argument(
            "--compile", type=bool, nargs="?", const=True, default=False, help="compile the UNet's repeated blocks"
        )
        parser.add_argument(
            "--gradient_checkpointing",
            type=bool,
            nargs="?",
            const=True,
            default=False,
            help="compute the UNet's blocks again in the backward pass: less memory for more time",
        )
        parser.add_argument(
            "--adamw_8bit",
            type=bool,
            nargs="?",
            const=True,
            default=False,
            help="keep AdamW's moments in 8 bits; needs a GPU and the package bitsandbytes",
        )
        parser.add_argument(
            "--tf32",
            type=bool,
            default=False,
            help="whether float32 products and convolutions may use TF32 on GPUs that have it, which rounds to 10 bits",
        )
        parser.add_argument(
            "--judges", type=JudgeSettings | None, default=None, help="folders of the networks that judge validation"
        )

    def before_instantiate_classes(self) -> None:
        refuse_nulls("", self.config.as_dict())

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Raises :class:`LikenessError` for settings that no run can honour."""
        settings = self.config_init
        output = Path(settings.output).expanduser()
        run = prepare(output)
        trainer_settings = honoured(settings.trainer, output)
        checkpoints = Checkpoints(run, settings.checkpoint_every, settings.keep_adapters, self._best_metric())
        config = self.parser.dump(self.config, skip_none=False)
        searched = search_facts(Path(settings.search), yaml.safe_load(config)) if settings.search else None
        ours = callbacks_of_every_run(
            run, config, checkpoints, settings.rank_timeout, trainer_settings["max_time"], settings.tf32, searched
        )
        if settings.judges is not None:
            ours.append(ValidationScores(settings.judges))
        if trainer_settings["logger"] is not False:
            ours.append(LearningRateMonitor(logging_interval="step"))
        given = given_callbacks(settings.trainer)
        shown = trainer_settings["enable_progress_bar"] is not False
        if shown and not any(isinstance(callback, ProgressBar) for callback in given):
            ours.append(StepBar())
        try:
            trainer = RunTrainer(**trainer_settings | {"callbacks": [*given, *ours], "max_time": None} | kwargs)
        except (ImportError, RuntimeError, TypeError, ValueError) as error:
            raise LikenessError(f"trainer: {' '.join(str(error).split())}") from error
        trainer.finished_at = finished_step(run)
        self._settle_ddp(trainer)
        trainer.limit_silence()
        return trainer

    def _best_metric(self) -> str | None:
        settings = self.config_init
        metric, judges = settings.checkpoint_best, settings.judges
        if metric is None:
            return None
        if judges is None or not self.config.data.get("validation", {}).get("prompts"):
            raise LikenessError("checkpoint_best needs a validation: give judges and data.validation.prompts")
        known = [one.name for one in validation_metrics(judges)]
        if metric not in known:
            raise LikenessError(
                f"checkpoint_best {metric!r} is none of what these judges measure: {', '.join(known)}"
                f"{nearest(metric, known)}"
            )
        return metric

    def _settle_ddp(self, trainer: Trainer) -> None:
        """Lightning gives no other way to say these without naming the strategy, which one device would have to carry
        too. Buffers are the same on all processes from the start, and to send them before every forward pass, as DDP
        would, needs as many passes of each: shares of the validation may be unequal."""
        if not isinstance(trainer.strategy, DDPStrategy):
            return
        trainer.strategy._ddp_kwargs.setdefault("broadcast_buffers", False)
        trainer.strategy._ddp_kwargs.setdefault("gradient_as_bucket_view", True)  # one copy of each gradient, not two
        if self.config_init.trainer.strategy == "auto" and self.model.trains_in_parts:
            # A stage trains some of the parts only, and plain DDP would wait for gradients of the others.
            trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def settle_model(self) -> None:
        """Do to the method what the options of this command say.

        Raises:
            LikenessError: there is no AdamW in 8 bits here, or the method cannot learn with it.
        """
        settings, unet = self.config, self.model.backbone.unet
        if settings.adamw_8bit:
            check_8_bits(self.trainer.strategy.root_device)
            if self.model.enrols:
                raise LikenessError(
                    f"--adamw_8bit: {type(self.model).__name__} optimises subjects side by side, and blocks of 8 bits "
                    "would span several of them: leave it out"
                )
            self.model.optimiser_in_8_bits = True
        if settings.gradient_checkpointing:
            checkpoint_blocks(unet)
        if settings.compile:
            compile_blocks(unet)

    def check_same_base(self) -> None:
        """Raises :class:`LikenessError` where the data are encoded by another base model than the one that trains."""
        source = self.config.data.backbone
        if backbone_fingerprint(source) != self.model.backbone.fingerprint:
            given = self.config.model.init_args
            which = given.backbone + (f" at revision {given.revision}" if given.get("revision") else "")
            raise LikenessError(
                f"data.backbone {source} has other weights than model.backbone {which}: give both the same folder"
            )
