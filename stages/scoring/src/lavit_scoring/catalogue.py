"""The benchmarks: what each asks, which files it reads, where those come from, and what LaVIT's authors report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lavit_scoring.errors import InputError, UsageError

Kind = Literal[
    "vqa", "vizwiz", "answerability", "gqa", "caption", "edit", "pope", "mme", "seed", "mmmu", "ai2d", "scienceqa",
    "mmbench", "textvqa", "geneval", "dpg", "wise", "t2i", "t2i_complex",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark as it is downloaded."""

    name: str
    kind: Kind
    """Which scorer and which file layout."""
    title: str
    metric: str
    """The metric that papers quote."""
    size: str
    """What is evaluated, with its count."""
    source: str
    """Where the official files come from."""
    annotations: tuple[str, ...]
    """File names under which the answers or references are known; the first one found is used."""
    questions: tuple[str, ...] = ()
    """File names of the questions, where they are a file of their own."""
    images: tuple[str, ...] = ()
    """Folders that may contain the images."""
    published: str = ""
    """What is reported for LaVIT by others than us, under their own protocol."""
    published_by: str = "LaVIT's authors, LLaMA-1 / v1 / v2"
    protocols: tuple[str, ...] = ("official", "lavit")
    """By whose rules it can be scored."""
    runs: bool = True
    """Whether `lavit eval` runs a model on it; else it scores result files alone."""


MORPH = "a leaderboard's row for LaVIT, likely of the Morph-Tokens paper (arXiv 2405.01926), whose table was not seen"
"""Who reports LaVIT's editing metrics; LaVIT's own paper has none."""

BENCHMARKS = (
    Benchmark(
        name="vqav2",
        kind="vqa",
        title="VQAv2",
        metric="accuracy",
        size="val2014: 214,354 questions, 10 answers each",
        source="https://visualqa.org/download.html",
        annotations=("v2_mscoco_val2014_annotations.json",),
        questions=("v2_OpenEnded_mscoco_val2014_questions.json",),
        images=("val2014",),
        published="accuracy 66.0 / 68.2 / 68.3",
    ),
    Benchmark(
        name="okvqa",
        kind="vqa",
        title="OK-VQA",
        metric="accuracy",
        size="val2014: 5,046 questions, 10 answers each",
        source="https://okvqa.allenai.org/download.html",
        annotations=("mscoco_val2014_annotations.json",),
        questions=("OpenEnded_mscoco_val2014_questions.json",),
        images=("val2014",),
        published="accuracy 54.6 / 55.7 / 55.9",
    ),
    Benchmark(
        name="vizwiz",
        kind="vizwiz",
        title="VizWiz VQA",
        metric="accuracy",
        size="val: 4,319 questions, 10 answers each",
        source="https://vizwiz.org/tasks-and-datasets/vqa/",
        annotations=("val.json",),
        images=("val",),
        published="accuracy 38.5 / 45.3 / 41.0",
    ),
    Benchmark(
        name="vizwiz-answerability",
        kind="answerability",
        title="VizWiz answerability",
        metric="average_precision",
        size="val: 4,319 questions",
        source="https://vizwiz.org/tasks-and-datasets/vqa/",
        annotations=("val.json",),
        images=("val",),
    ),
    Benchmark(
        name="gqa",
        kind="gqa",
        title="GQA",
        metric="accuracy",
        size="testdev-balanced: 12,578 questions",
        source="https://cs.stanford.edu/people/dorarad/gqa/download.html",
        annotations=("testdev_balanced_questions.json",),
        images=("images",),
        published="accuracy 46.8 / 48.0 / 47.9",
    ),
    Benchmark(
        name="coco-caption",
        kind="caption",
        title="COCO captions, Karpathy test",
        metric="cider",
        size="5,000 images, 5 captions each",
        source="https://cs.stanford.edu/people/karpathy/deepimagesent/",
        annotations=("dataset_coco.json", "coco_karpathy_test_gt.json", "coco_karpathy_test.json"),
        images=("val2014",),
        published="CIDEr 134.0 / 134.6 / 133.3 (x100)",
    ),
    Benchmark(
        name="nocaps",
        kind="caption",
        title="NoCaps validation",
        metric="cider",
        size="4,500 images, 10 captions each",
        source="https://nocaps.org/download",
        annotations=("nocaps_val_4500_captions.json",),
        images=("val", "validation", "images"),
        published="CIDEr 114.2 / 113.1 / 112.0 (x100)",
    ),
    Benchmark(
        name="flickr30k-caption",
        kind="caption",
        title="Flickr30k captions, Karpathy test",
        metric="cider",
        size="1,000 images, 5 captions each",
        source="https://cs.stanford.edu/people/karpathy/deepimagesent/",
        annotations=("dataset_flickr30k.json", "flickr30k_test_gt.json", "flickr30k_test.json"),
        images=("flickr30k-images", "flickr30k_images", "images"),
        published="CIDEr 83.0 / 83.2 / 81.4 (x100)",
    ),
    Benchmark(
        name="magicbrush",
        kind="edit",
        title="MagicBrush",
        metric="all_turn.clip_i, final_turn.clip_i",
        size="test: 1,053 edits in 535 sessions",
        source="https://github.com/OSU-NLP-Group/MagicBrush",
        annotations=("edit_sessions.json",),
        images=("images",),
        published="CLIP-I 81.1 (x100)",
        published_by=MORPH,
    ),
    Benchmark(
        name="ma5k",
        kind="edit",
        title="MA5k-Req (MIT-Adobe FiveK with requests)",
        metric="lpips",
        size="test: 4,950 requests on 990 images",
        source="https://github.com/jshi31/T2ONet",
        annotations=("test_sess_1.json",),
        images=("images",),
        published="LPIPS 36.9 (x100)",
        published_by=MORPH,
    ),
    *(
        Benchmark(
            name=f"pope-{part}",
            kind="pope",
            title=f"POPE, {part} objects",
            metric="f1",
            size="3,000 questions about 500 images of COCO val2014, half of them yes",
            source="https://github.com/RUCAIBox/POPE",
            annotations=(f"coco_pope_{part}.json",),
            images=("val2014",),
            protocols=("official", "lmms-eval"),
            runs=False,
        )
        for part in ("random", "popular", "adversarial")
    ),
    Benchmark(
        name="mme",
        kind="mme",
        title="MME",
        metric="total, perception, cognition",
        size="14 tasks: 2,374 questions, two an image",
        source="https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models/tree/Evaluation",
        annotations=("Your_Results",),
        protocols=("official", "lmms-eval"),
        runs=False,
    ),
    Benchmark(
        name="seed-image",
        kind="seed",
        title="SEED-Bench, images",
        metric="accuracy",
        size="14,232 questions of 9 types, 4 choices each",
        source="https://huggingface.co/datasets/AILab-CVC/SEED-Bench",
        annotations=("SEED-Bench.json",),
        protocols=("official", "lmms-eval"),
        runs=False,
    ),
    Benchmark(
        name="mmmu-val",
        kind="mmmu",
        title="MMMU validation",
        metric="accuracy",
        size="900 questions of 30 subjects, 2 to 9 choices or open",
        source="https://huggingface.co/datasets/MMMU/MMMU (rows as JSON lines, without images)",
        annotations=("mmmu_val.jsonl",),
        protocols=("lmms-eval",),
        runs=False,
    ),
    Benchmark(
        name="ai2d",
        kind="ai2d",
        title="AI2D test",
        metric="accuracy",
        size="3,088 questions, 4 choices each",
        source="https://huggingface.co/datasets/lmms-lab/ai2d (rows as JSON lines with an id, without images)",
        annotations=("ai2d_test.jsonl",),
        protocols=("lmms-eval",),
        runs=False,
    ),
    Benchmark(
        name="scienceqa-img",
        kind="scienceqa",
        title="ScienceQA test, questions with an image",
        metric="accuracy",
        size="2,017 questions, 2 to 5 choices",
        source="https://github.com/lupantech/ScienceQA",
        annotations=("problems.json",),
        protocols=("llava", "lmms-eval"),
        runs=False,
    ),
    Benchmark(
        name="mmbench-dev",
        kind="mmbench",
        title="MMBench dev, CircularEval",
        metric="accuracy",
        size="1,164 questions of 20 abilities, as often as they have choices",
        source="https://github.com/open-compass/MMBench",
        annotations=("mmbench_dev_20230712.tsv", "MMBench_DEV_EN.tsv"),
        protocols=("vlmevalkit",),
        runs=False,
    ),
    Benchmark(
        name="textvqa",
        kind="textvqa",
        title="TextVQA",
        metric="accuracy",
        size="val: 5,000 questions, 10 answers each",
        source="https://textvqa.org/dataset/",
        annotations=("TextVQA_0.5.1_val.json",),
        protocols=("official",),
        runs=False,
    ),
    Benchmark(
        name="geneval",
        kind="geneval",
        title="GenEval",
        metric="score",
        size="553 prompts of 6 tasks, 4 images each",
        source="https://github.com/djghosh13/geneval",
        annotations=("evaluation_metadata.jsonl",),
        protocols=("official",),
    ),
    Benchmark(
        name="dpg-bench",
        kind="dpg",
        title="DPG-Bench",
        metric="score",
        size="1,065 long prompts, 4 images each",
        source="https://github.com/TencentQQGYLab/ELLA",
        annotations=("dpg_bench.csv",),
        protocols=("official", "corrected"),
    ),
    Benchmark(
        name="wise",
        kind="wise",
        title="WISE",
        metric="score",
        size="1,000 prompts of 6 categories, one image each",
        source="https://github.com/PKU-YuanGroup/WISE",
        annotations=("cultural_common_sense.json", "cultural_common_sense_verified.json"),
        protocols=("official", "verified"),
    ),
    *(
        Benchmark(
            name=f"t2i-compbench-{part}",
            kind="t2i_complex" if part == "complex" else "t2i",
            title=f"T2I-CompBench, {part}",
            metric="score",
            size="300 prompts, 10 images each",
            source="https://github.com/Karine-Huang/T2I-CompBench",
            annotations=(f"{part.replace('-', '_')}_val.txt",),
            protocols=("official",),
        )
        for part in ("color", "shape", "texture", "spatial", "3d-spatial", "numeracy", "non-spatial", "complex")
    ),
)


def find_benchmark(name: str) -> Benchmark:
    """Return a benchmark by name. Raises UsageError listing what exists."""
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    if name not in known:
        raise UsageError(f"{name}: no such benchmark, expected one of {', '.join(known)}; see `lavit eval list`")
    return known[name]


def refuse_split(benchmark: Benchmark, split: str | None) -> None:
    """Raise UsageError if a split is given for official files of one split each: all but Karpathy's caption files."""
    if split is not None and benchmark.kind != "caption":
        raise UsageError(
            f"--split {split}: {benchmark.name} keeps its splits in files of their own; give the other --annotations"
        )


def find_file(data: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first of the named files at most three folders below `data`; None if none of them exists.

    Raises InputError if a name occurs in two places: guessing could score the wrong one.
    """
    for name in names:
        found = find_below(data, name, depth=3)
        if len(found) > 1:
            raise InputError(f"{data}: {name} is in {found[0].parent} and in {found[1].parent}, expected one place")
        if found:
            return found[0]
    return None


def find_folder(data: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first of the named folders at most two folders below `data`."""
    found = (path for name in names for path in find_below(data, name, depth=2))
    return next((path for path in found if path.is_dir()), None)


def find_below(folder: Path, pattern: str, *, depth: int) -> list[Path]:
    """Return the paths of a pattern in a folder and at most `depth` folders below it, the upper ones first."""
    return [path for level in range(depth + 1) for path in sorted(folder.glob("*/" * level + pattern))]
