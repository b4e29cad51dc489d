"""Train a method.

python train.py --config configs/pocket/spotdiff.yaml
python train.py --config configs/spotdiff.yaml --trainer.devices 8 --model.orthogonality_weight 0.1
"""

import os
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from contracts.early_check import check_training
from contracts.errors import SAVED, LikenessError, report_fault
from contracts.launcher import forget_stray_ranks, is_first_process
from contracts.lock import folder_lock
from contracts.streams import outlive_readers, say_stopped, speak_utf8

if __name__ == "__main__":  # before torch is imported, which takes ten seconds
    speak_utf8()
    outlive_readers()
    try:
        check_training(sys.argv[1:], Path(__file__))
        forget_stray_ranks()
    except LikenessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads cost small machines twenty times the work

import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.multiprocessing import ProcessExitedException

from callbacks.checkpoint_io import latest_checkpoint
from callbacks.interruption import ends_when_told
from contracts.method_modules import allow_classes, import_methods, methods_of
from datamodules.spotdiff10k import SpotDiff10kDataModule
from lightning_modules import PersonalisationModule
from lightning_modules.run import Run
from training.cli import TrainCLI
from training.mistakes import one_line
from training.quiet import silence_what_says_nothing
from training.resuming import check_same_settings


def train(arguments: Sequence[str] | None = None) -> Path:
    """Train as the arguments say and return the run folder.

    A run that was stopped goes on from its latest checkpoint, on the batches that follow it.
    """
    silence_what_says_nothing()
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
        auto_configure_optimizers=False,
        parser_kwargs={
            "usage": "train.py --config FILE ... [--KEY VALUE ...]",
            "description": "Train a method.",
            "parser_mode": "omegaconf+",
            "exit_on_error": False,
            "allow_abbrev": False,
        },
        args=None if arguments is None else given,
    )
    cli.check_same_base()
    cli.settle_model()
    run = Run(Path(cli.config.output).expanduser())
    with ends_when_told(cli.trainer), folder_lock(run.folder) if cli.trainer.is_global_zero else nullcontext():
        checkpoint = latest_checkpoint(run.folder / "checkpoints")
        if checkpoint is not None:
            check_same_settings(run, yaml.safe_load(cli.parser.dump(cli.config, skip_none=False)))
        elif cli.config.start_from:
            cli.model.load_adapter(Run.named(cli.config.start_from).adapter_file)
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True)
    return run.folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line about a mistake of the user, or
    :data:`SAVED` where it was told to end."""
    try:
        folder = train(arguments)
        if is_first_process():
            print(f"run folder: {folder}")
    except (KeyboardInterrupt, SIGTERMException) as stop:
        return _stopped(stop)
    except SystemExit as end:  # Lightning's after Ctrl-C; the parser's after --help and --print_config
        return _stopped(end) if isinstance(end.__context__, KeyboardInterrupt) else int(end.code or 0)
    except ProcessExitedException as error:
        if error.exit_code == SAVED or error.signal_name == "SIGTERM":
            return _stopped(error)
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    except (ArgumentError, Exception) as error:
        if (mistake := one_line(error)) is None:
            return report_fault()
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    return 0


def _stopped(stop: BaseException) -> int:
    saved = isinstance(stop, SIGTERMException | ProcessExitedException)
    say_stopped("the state is saved" if saved else "what was saved is kept")
    return SAVED


if __name__ == "__main__":
    sys.exit(main())
