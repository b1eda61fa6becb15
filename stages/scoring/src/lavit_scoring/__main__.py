"""`python -m lavit_scoring vqav2 --results FILE --annotations FILE`: a score on standard output."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lavit_scoring.catalogue import find_benchmark
from lavit_scoring.errors import ScoringError
from lavit_scoring.scorers import PROTOCOLS, score_file
from lavit_scoring.show import show_result
from lavit_scoring.task import ScoringTask


def main(argv: Sequence[str] | None = None) -> int:
    """Score a result file, print the score, and return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        task = ScoringTask(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(ScoringTask)})
        result = score_file(find_benchmark(arguments.benchmark), task, arguments.out)
    except ScoringError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write((json.dumps(result) if arguments.json else show_result(result)) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lavit_scoring", description=__doc__)
    parser.add_argument("benchmark", help="vqav2, okvqa, vizwiz, vizwiz-answerability, gqa, coco-caption, ...")
    parser.add_argument("--results", type=Path, required=True, help="result file of any model")
    parser.add_argument("--annotations", type=Path, required=True, help="official answers or references")
    parser.add_argument("--questions", type=Path, help="question file, checked against both")
    parser.add_argument("--choices", type=Path, help="GQA's choices file: validity, plausibility")
    parser.add_argument("--protocol", default="official", help=f"{' or '.join(PROTOCOLS)} (default: official)")
    parser.add_argument("--lemmatizer", help="with lavit: given, rules or a spaCy model directory")
    parser.add_argument("--split", help="split of a Karpathy file (default: test)")
    parser.add_argument("--partial", action="store_true", help="score what is there; marked, never complete")
    parser.add_argument("--java", action="store_true", help="METEOR and SPICE too (Java, pycocoevalcap)")
    parser.add_argument("--judge", help="who judged generated images; written into the score")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--out", type=Path, help="folder for score.json and items.jsonl")
    parser.add_argument("--json", action="store_true", help="print score.json instead of a table")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
