"""`lavit quickstart`: every stage in order, each in its own run directory under one; the same command resumes."""

import signal
from pathlib import Path
from typing import Any

from lavit_core.data import Source
from lavit_core.distributions import require_stages
from lavit_core.errors import Interrupted, UsageError
from lavit_core.follow import UNFOLLOWED, FollowOptions
from lavit_core.progress import note
from lavit_core.rundir import command_line, open_run

from lavit_cli.quickstart.config import QuickstartConfig
from lavit_cli.quickstart.settings import settle
from lavit_cli.quickstart.steps import STEPS, Job, data_digest
from lavit_cli.quickstart.summary import summarise
from lavit_cli.step_costs import cost_line, measured

PRODUCTS = (
    "model/lavit.json", "evaluation/score.json", "tokenizer_evaluation/score.json", "report.html", "summary.json",
)  # fmt: skip
"""Files that a finished quickstart leaves; if one is missing, the same command makes it again."""


def quickstart(
    out: Path,
    config: QuickstartConfig,
    *,
    data: Path | Source | None = None,
    seed: int = 0,
    device: str = "auto",
    stop_after: str | None = None,
    follow: FollowOptions = UNFOLLOWED,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run every step that is not done yet and return the summary. Raises Interrupted on SIGTERM or Ctrl-C."""
    with require_stages("lavit quickstart"):
        from lavit_trainkit.device import check_training_device

    names = [step.name for step in STEPS]
    if stop_after is not None and stop_after not in names:
        raise UsageError(f"--stop-after {stop_after}: the steps are {', '.join(names)}")
    check_training_device(device)
    # Data that can't be used is refused before there is a run directory, which would refuse the mended data.
    inputs = {"data": data_digest(data, config, seed)}
    settings = settle(config)
    record = {**config.model_dump(mode="json"), "seed": seed}
    with open_run(out, command="quickstart", config=record, inputs=inputs, settings=QuickstartConfig) as run:
        if run.done:
            if all((out / file).exists() for file in PRODUCTS):
                note(f"{out}: already finished", quiet=quiet)
                return run.done
            run.reopen()
        job = Job(
            out=out, config=config, settings=settings, data=data, seed=seed, device=device, quiet=quiet, follow=follow
        )
        summaries: dict[str, Any] = {}
        # SIGTERM acts like Ctrl-C: steps without a loop of their own stop at once, and start anew the next time.
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for step in STEPS:
                if not step.wanted(job):
                    continue
                note(f"{step.name}: {step.title}", quiet=quiet)
                with measured(out, step.name) as cost:
                    summaries[step.name] = step.run(job)
                note(f"{step.name}: done in {cost_line(cost)}\n", quiet=quiet)
                if step.name == stop_after:
                    return summarise(job, summaries)
        except KeyboardInterrupt:
            raise Interrupted(f"{out}: during {step.name}; {_again(out)}") from None
        except Interrupted as error:
            raise Interrupted(f"{str(error).partition(';')[0]}; {_again(out)}") from None
        finally:
            signal.signal(signal.SIGTERM, before)
        summary = summarise(job, summaries)
        run.finish(summary)
        return summary


def _again(out: Path) -> str:
    """Return what goes on with a quickstart that was stopped, whichever stage it was in."""
    line = command_line(out)
    return "run the same command to go on" if line is None else f"run `{line}` to go on"
