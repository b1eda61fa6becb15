"""Commands of the evaluation stage: `lavit eval <benchmark>`."""

from typing import Any

import typer
from lavit_core.progress import warn
from lavit_scoring import BENCHMARKS
from typer.core import TyperGroup

from lavit_evaluation.cli_benchmarks import answers, retrieval
from lavit_evaluation.cli_editing import editing
from lavit_evaluation.cli_generation import DRAWN, generation
from lavit_evaluation.cli_images import clip_score, coco_fid, fid, fid_stats
from lavit_evaluation.cli_score import compare, list_benchmarks, score
from lavit_evaluation.cli_shapes import probe, shapes
from lavit_evaluation.cli_tokenizer import rate_distortion, tokenizer


class Commands(TyperGroup):
    """The commands, and one under its old name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Take `coco-fid --generated` as `fid`, its name now."""
        if args[:1] == ["coco-fid"] and any(arg.partition("=")[0] == "--generated" for arg in args):
            warn("`coco-fid --generated` is now `fid --generated`; the old name is accepted for one more release")
            args = ["fid", *args[1:]]
        return super().resolve_command(ctx, args)


evaluate = typer.Typer(
    cls=Commands, help="Benchmarks: scores of answers, captions and drawings on held-out data.", no_args_is_help=True
)

evaluate.command("score")(score)
evaluate.command("list")(list_benchmarks)
evaluate.command("compare")(compare)
for benchmark in BENCHMARKS:
    if benchmark.runs:
        run = editing if benchmark.kind == "edit" else generation if benchmark.kind in DRAWN else answers
        evaluate.command(benchmark.name)(run(benchmark))
for name in ("flickr30k-retrieval", "coco-retrieval"):
    evaluate.command(name)(retrieval(name))
evaluate.command("coco-fid")(coco_fid)
evaluate.command("fid")(fid)
evaluate.command("fid-stats")(fid_stats)
evaluate.command("clip-score")(clip_score)
evaluate.command("shapes")(shapes)
evaluate.command("probe")(probe)
evaluate.command("tokenizer")(tokenizer)
evaluate.command("rate-distortion")(rate_distortion)
