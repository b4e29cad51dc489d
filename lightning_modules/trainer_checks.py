"""Trainer settings with which subjects can be optimised in groups, each for the same number of steps."""

from lightning import Trainer

from contracts.errors import LikenessError


def check_trainer(trainer: Trainer, steps: int, groups: int) -> None:
    """Raise :class:`LikenessError` for settings that do not fit ``groups`` of subjects with ``steps`` steps each."""
    if trainer.accumulate_grad_batches != 1:
        raise LikenessError("trainer.accumulate_grad_batches must be 1: a batch is one step of every subject")
    if trainer.num_sanity_val_steps:
        raise LikenessError("trainer.num_sanity_val_steps must be 0: before the first step no subject is enrolled")
    algorithm = trainer.gradient_clip_algorithm
    if algorithm is not None and algorithm != "norm":
        raise LikenessError(
            f"trainer.gradient_clip_algorithm is {algorithm.value!r}: gradients are clipped by each subject's norm, "
            "take it away"
        )
    if trainer.limit_train_batches != 1.0:
        raise LikenessError(
            f"trainer.limit_train_batches is {trainer.limit_train_batches}: take it away, and set "
            "data.enrolment.steps, which is per subject"
        )
    _check_length(trainer, steps, groups)


def _check_length(trainer: Trainer, steps: int, groups: int) -> None:
    """A run that ends before the last group starts would silently leave subjects out, and after the last group there
    is nothing to train on."""
    length = steps * groups
    if 0 <= trainer.max_steps <= length - steps:
        raise LikenessError(
            f"trainer.max_steps {trainer.max_steps} ends before the last of {groups} groups of {steps} steps: take it "
            "away (-1), or raise data.enrolment.at_once"
        )
    if trainer.max_steps > length:
        raise LikenessError(
            f"trainer.max_steps {trainer.max_steps} is more than the {length} steps of the enrolment ({groups} groups "
            f"of data.enrolment.steps {steps}): take it away (-1), or raise data.enrolment.steps"
        )
    if trainer.max_steps < 0 and trainer.max_epochs != 1:
        raise LikenessError(
            f"trainer.max_epochs is {trainer.max_epochs}, it must be 1: an epoch holds every step of every subject "
            "(data.enrolment.steps)"
        )
