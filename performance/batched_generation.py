"""Drawing 16 requests in one batch against one by one: seconds per image, reference / ours.

On the small base model of :mod:`performance.models`, because the gain depends on the network.
"""

from lightning_modules.spotdiff import SpotDiff
from performance.models import SMALL_WIDTH, part, request_batch, small_backbone, spotdiff
from performance.timing import Result, Rounds, compare

BATCH_SIZE = 16
SINGLES_PER_ROUND = 4
GOAL = 3.5


def measure(rounds: Rounds | None = None) -> Result:
    """Milliseconds per image, conditioning and decoding included, with the default sampler."""
    model: SpotDiff = spotdiff(small_backbone(), SMALL_WIDTH).eval()
    batch = request_batch(model, BATCH_SIZE, SMALL_WIDTH)
    singles = [part(batch, index) for index in range(SINGLES_PER_ROUND)]
    rounds = compare(lambda: model.draw(batch), lambda: [model.draw(single) for single in singles], rounds, warmup=1)
    ours, reference = 1000 * rounds.ours / BATCH_SIZE, 1000 * rounds.reference / SINGLES_PER_ROUND
    return Result(
        "generation in batches of 16", ours, reference, reference / ours, GOAL, "higher", "ms/image", rounds.self_ratio
    )
