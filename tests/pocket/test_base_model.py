"""Where the base model's loss looks."""

import torch

from pocket.base_model import inside, near


def test_inside_marks_the_cells_whose_centre_is_in_the_box() -> None:
    marked = inside(torch.tensor([[1.0, 0.0, 3.0, 2.4]]), 4)
    assert marked.shape == (1, 1, 4, 4)
    assert marked[0, 0].nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_near_marks_the_cells_around_each_point() -> None:
    marked = near(torch.tensor([[[1.5, 2.5], [7.9, 7.9]]]), 8)[0, 0]
    at = torch.arange(8) + 0.5
    expected = torch.zeros(8, 8)
    for x, y in ((1.5, 2.5), (7.9, 7.9)):
        expected[((at[None] - x) ** 2 + (at[:, None] - y) ** 2) ** 0.5 < 1.5] = 1
    assert torch.equal(marked, expected) and marked.sum() == 9 + 3
