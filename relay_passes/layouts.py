"""Where the axes of NC… tensors stand channels last, and back, for any number of axes."""


def to_last(rank: int) -> tuple[int, ...]:
    """Return the permutation NC… -> N…C."""
    return (0, *range(2, rank), 1)


def last_to_first(rank: int) -> tuple[int, ...]:
    """Return the permutation N…C -> NC…."""
    return (0, rank - 1, *range(1, rank - 1))


def axis_in_last(axis: int, rank: int) -> int:
    """Return where axis ``axis`` of an NC… tensor stands in its N…C twin."""
    return to_last(rank).index(axis % rank)
