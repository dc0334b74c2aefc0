"""What another configuration would have paged: stored blocks, evaluations and panes through the code that decides live.

Evidence is always bet again, block by block. Effects are decided again from the stored scores where the evaluations hold
every window asked for, which is exactly what the daemon saw; other windows are summed from panes as far back as panes are
kept. Nothing is written.
"""

from monitor.backtest.comparing import Change, Page
from monitor.backtest.reporting import ModelReport, backtest

__all__ = ["Change", "ModelReport", "Page", "backtest"]
