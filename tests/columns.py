"""How is a table printed?"""

from collections.abc import Collection, Iterator, Sequence


def columns(lines: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> Iterator[str]:
    """Each line with its cells below one another; those of columns of numbers end below one another."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.rjust(widths[place]) if place in numbers else cell.ljust(widths[place])
            for place, cell in enumerate(line)
        )
        yield "  ".join(cells).rstrip()
