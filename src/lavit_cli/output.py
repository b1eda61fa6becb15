"""Tables on stdout."""

from collections.abc import Iterable, Sequence


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str] | None], *, right_from: int | None = None) -> None:
    """Write a table to stdout; None is a rule between rows, columns from `right_from` on are aligned to the right.

    Cells are rich markup: escape what comes from outside.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, title in enumerate(titles):
        right = right_from is not None and place >= right_from
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*row)
    Console().print(table)
