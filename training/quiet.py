"""Warnings of the libraries that say nothing to somebody who trains here."""

import logging
import warnings

_SAY_NOTHING = (
    r".*LeafSpec.*",  # Lightning's own use of a name that torch is about to drop
    r".*module\(s\) in eval mode at the start of training.*",  # the frozen base model
    r".*recommended to use `self\.log\(.*sync_dist=True\)`.*",  # scores are those of all processes already
    r".*Total length of `list` across ranks is zero.*",  # a run without validation
    r".*`broadcast_buffers` is deprecated.*",  # its successor sends the frozen base model to every process at the start
    r".*does not have many workers.*",  # features come from memory maps
    r".*smaller than the logging interval.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*`srun` command is available.*",
    r".*find_unused_parameters=True was specified.*",  # stages train some of the parts each
)
_ADVERTISEMENTS = ("Tip: For seamless", "litlogger", "litmodels", "💡")


def silence_what_says_nothing() -> None:
    """Leave out the known ones by their words; all others are shown."""
    for words in _SAY_NOTHING:
        warnings.filterwarnings("ignore", message=words)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: not any(ad in record.getMessage() for ad in _ADVERTISEMENTS))
