"""`lavit quickstart`: the whole pipeline in one command."""

from lavit_cli.quickstart.config import QuickstartConfig, plan
from lavit_cli.quickstart.run import quickstart
from lavit_cli.quickstart.settings import settled
from lavit_cli.quickstart.summary import show_summary

__all__ = ["QuickstartConfig", "plan", "quickstart", "settled", "show_summary"]
