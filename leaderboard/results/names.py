"""How the folders of one row of a board are called.

A row is called by its label, and so is the folder of its first training. ``LABEL+2`` is the second training of it,
``LABEL@0.4`` what its method does at 0.4 of a sweep, ``LABEL+2@0.4`` what the second training does there. No label that
a user gives has ``+`` or ``@`` in it.
"""

_TRAINING, _POINT = "+", "@"


def training_name(label: str, number: int) -> str:
    """The folder of a row's training, counted from 1."""
    return label if number == 1 else f"{label}{_TRAINING}{number}"


def point_name(training: str, value: float) -> str:
    """The folder of what a training does at a value of a sweep."""
    return f"{training}{_POINT}{value:g}"


def training_of(name: str) -> str:
    """The training that a folder belongs to."""
    return name.partition(_POINT)[0]


def label_of(name: str) -> str:
    """The label of the row that a folder belongs to."""
    return training_of(name).partition(_TRAINING)[0]
