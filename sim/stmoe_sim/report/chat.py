"""A growing text beside its figures, on a terminal or as plain output."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .terminal import number, percent

__all__ = ["ChatView", "figures_table"]

FIGURES_WIDTH = 34


def figures_table(figures: dict[str, Any]) -> Table:
    """What has been measured so far; a dash for what the engine does not tell."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    energy = figures.get("energy_pj_per_token")
    speed = figures.get("seconds_per_token")
    for name, value in (
            ("tokens", str(figures.get("tokens", 0))),
            ("cycles/token", number(figures.get("cycles_per_token"), 0)),
            ("coverage", percent(figures.get("coverage"))),
            ("  resident", percent(figures.get("resident"))),
            ("  in time", percent(figures.get("prefetched_in_time"))),
            ("  late", percent(figures.get("prefetched_late"))),
            ("traffic", percent(figures.get("traffic"))),
            ("energy/token", "-" if energy is None else f"{energy / 1e6:,.2f} uJ"),
            ("simulated", "-" if not speed else f"{1 / speed:.2f} tokens/s")):
        table.add_row(name, value)
    return table


class ChatView:
    """Shows a conversation: live on a terminal, piece by piece elsewhere."""

    def __init__(self, console: Console, prompt: str, title: str):
        self.console, self.prompt, self.title = console, prompt, title
        self.shown = 0
        self.live: Live | None = None

    def _render(self, text: str, figures: dict[str, Any]) -> Group:
        width = max(30, self.console.width - FIGURES_WIDTH - 1)
        body = Text(self.prompt, style="bold") + Text(text, style="not bold")
        lines = body.wrap(self.console, width - 4)
        room = max(6, self.console.height - 4)
        body = Text("\n").join(lines[-room:])
        return Group(Columns([
            Panel(body, width=width, title=self.title, title_align="left"),
            Panel(figures_table(figures), width=FIGURES_WIDTH, title="per decode token",
                  title_align="left")]))

    @contextmanager
    def open(self) -> Iterator["ChatView"]:
        """Show until the end of the block; what is last shown stays."""
        if self.console.is_terminal:
            with Live(self._render("", {}), console=self.console, auto_refresh=False) as self.live:
                yield self
            return
        self.console.print(self.title, highlight=False)
        self.console.print(self.prompt, end="", markup=False, highlight=False, soft_wrap=True)
        yield self
        self.console.print()

    def update(self, text: str, figures: dict[str, Any]) -> None:
        """The text so far, without the prompt, and its figures."""
        if self.live is not None:
            self.live.update(self._render(text, figures), refresh=True)
            return
        self.console.print(text[self.shown:], end="", markup=False, highlight=False,
                           soft_wrap=True)
        self.shown = len(text)
