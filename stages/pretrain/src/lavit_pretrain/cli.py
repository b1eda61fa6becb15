"""Commands of the pretrain stage: `pretrain`, `sample`."""

from lavit_core.command import NO_PRESET, CommonOptions, command, required, settings_of, show, show_plan, word
from lavit_core.data_options import DataOptions
from lavit_core.default_model import model_or_default, with_default_preset
from lavit_core.errors import UsageError
from lavit_core.follow import FollowOptions
from lavit_core.modeldir import find_part
from lavit_core.options import ModelOrDefault, ModelUnlessDry, Out, OutUnlessDry
from lavit_core.progress import LOADING, waiting

from lavit_pretrain import options


@command()
def pretrain(
    tokens: options.Tokens = None,
    model: ModelUnlessDry = None,
    out: OutUnlessDry = None,
    image_input: options.ImageInputOption = None,
    llm: options.Llm = None,
    questions: options.Questions = None,
    text: options.Text = None,
    data: options.LiveImages = None,
    *,
    follow: FollowOptions,
    layout: DataOptions,
    common: CommonOptions,
) -> None:
    """Train a language model on token files: it learns to read and to write images."""
    from lavit_pretrain.config import PretrainConfig

    settings = settings_of(common, PretrainConfig, ("lavit_pretrain", "pretrain"), {"image_input": image_input})
    if common.dry_run:
        from lavit_trainkit.cost import plan_lines

        from lavit_pretrain.plan import plan

        kinds = {"questions": bool(questions or not tokens), "text": bool(text or not tokens)}
        planned = plan(settings, llm, tokens or (), model, **kinds, device=common.device)
        return show(planned, common, lines=plan_lines(planned))
    tokens, model, out = required("TOKENS", tokens), required("--model", model), required("--out", out)
    if data is not None and settings.image_input != "live":
        raise UsageError(
            f"--data {data}: image_input {settings.image_input} reads no images; leave --data out, or give "
            "--image-input live"
        )
    if not questions and data is None and (unread := layout.source(out).options):
        raise UsageError(f"{unread[0][0]} says how --questions and --data are read; none of them was given")
    from lavit_core.token_format import read_manifest
    from lavit_core.token_sources import token_folders

    for folder, _ in token_folders(tokens):
        read_manifest(folder)
    find_part(model, "tokenizer")
    from lavit_pretrain.train_language_model import train_language_model

    summary = train_language_model(
        tokens,
        model,
        out,
        settings,
        llm=llm,
        questions=[layout.source(file) for file in questions or ()],
        text=text or (),
        data=None if data is None else layout.source(data),
        seed=common.seed,
        device=common.device,
        follow=follow,
        quiet=common.silent,
    )
    model = out / "model"
    first = word(token_folders(tokens)[0][0])
    following = f"next: lavit train-detokenizer {first} --images DATA --model {word(model)} --out RUN"
    show(summary, common, f"language model in {model / 'llm'}; {following}")


@command()
def sample(
    prompt: options.Prompts,
    out: Out,
    model: ModelOrDefault = None,
    num_images: options.NumImages = 1,
    guidance_scale: options.Guidance = None,
    *,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Draw images of a prompt as codes, into a token directory.

    Without --preset: `released-v2-readme` for imported weights (`published` if they have no SDXL decoder), else `tiny`.
    """
    from lavit_pretrain.config import SampleSettings

    common = with_default_preset(common, model, "llm")
    settings = settings_of(common, SampleSettings, ("lavit_pretrain", "sample"), {"guidance_scale": guidance_scale})
    model = model_or_default(model, "llm")
    if common.dry_run:
        return show_plan(settings, common, prompts=prompt, model=str(model), images=len(prompt) * num_images)
    wanted = {"num_images": num_images, "seed": common.seed}
    with waiting(LOADING, quiet=common.silent):
        from lavit_pretrain import sample as verb
    summary = verb.sample(prompt, model, out, settings, **wanted, device=common.device, precision=common.precision)
    following = f"next: lavit detokenize {word(out)} --model {word(model)} --out DIR"
    show(summary, common, f"{summary['images']} images as codes in {out}; {following}")
