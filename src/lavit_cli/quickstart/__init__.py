"""`lavit quickstart`: the whole pipeline in one command."""

from lavit_cli.quickstart.config import QuickstartConfig, plan
from lavit_cli.quickstart.run import quickstart
from lavit_cli.quickstart.settings import as_yaml, settled
from lavit_cli.quickstart.summary import show_summary

__all__ = ["QuickstartConfig", "as_yaml", "plan", "quickstart", "settled", "show_summary"]
