"""Commands of the pretrain stage: `pretrain`, `sample`, `caption`, `ask`."""

from lavit_core.command import NO_PRESET, CommonOptions, command, required, settings_of, show, show_plan
from lavit_core.default_model import model_or_default
from lavit_core.options import ModelOrDefault, ModelUnlessDry, Out, OutUnlessDry

from lavit_pretrain import options


@command()
def pretrain(
    tokens: options.Tokens = None,
    model: ModelUnlessDry = None,
    out: OutUnlessDry = None,
    image_input: options.ImageInput = None,
    llm: options.Llm = None,
    questions: options.Questions = None,
    text: options.Text = None,
    data: options.LiveImages = None,
    *,
    common: CommonOptions,
) -> None:
    """Train a language model on token files: it learns to read and to write images."""
    from lavit_pretrain.config import PretrainConfig

    settings = settings_of(common, PretrainConfig, ("lavit_pretrain", "pretrain"), {"image_input": image_input})
    if common.dry_run:
        from lavit_trainkit.cost_report import plan_lines

        from lavit_pretrain.plan import plan

        kinds = {"questions": bool(questions or not tokens), "text": bool(text or not tokens)}
        planned = plan(settings, llm, tokens or (), model, **kinds, device=common.device)
        return show(planned, common, lines=plan_lines(planned))
    tokens, model, out = required("TOKENS", tokens), required("--model", model), required("--out", out)
    from lavit_pretrain.train_language_model import train_language_model

    summary = train_language_model(
        tokens,
        model,
        out,
        settings,
        llm=llm,
        questions=questions or (),
        text=text or (),
        data=data,
        seed=common.seed,
        device=common.device,
        quiet=common.silent,
    )
    model = out / "model"
    following = f"next: lavit train-detokenizer {tokens[0]} --images DATA --model {model} --out RUN"
    show(summary, common, f"language model in {model / 'llm'}; {following}")


@command()
def sample(
    prompt: options.Prompts,
    out: Out,
    model: ModelOrDefault = None,
    num_images: options.NumImages = 1,
    guidance_scale: options.Guidance = None,
    *,
    common: CommonOptions,
) -> None:
    """Draw images of a prompt as codes, into a token directory."""
    from lavit_pretrain.config import SampleSettings

    settings = settings_of(common, SampleSettings, ("lavit_pretrain", "sample"), {"guidance_scale": guidance_scale})
    model = model_or_default(model, "llm")
    if common.dry_run:
        return show_plan(settings, common, prompts=prompt, model=str(model), images=len(prompt) * num_images)
    from lavit_pretrain import sample as verb

    wanted = {"num_images": num_images, "seed": common.seed}
    summary = verb.sample(prompt, model, out, settings, **wanted, device=common.device, precision=common.precision)
    following = f"next: lavit detokenize {out} --model {model} --out DIR"
    show(summary, common, f"{summary['images']} images as codes in {out}; {following}")


@command()
def caption(
    image: options.ImageFiles,
    model: ModelOrDefault = None,
    max_tokens: options.MaxTokens = None,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Describe images."""
    from lavit_pretrain.config import CaptionSettings

    settings = settings_of(common, CaptionSettings, flags={"max_tokens": max_tokens})
    model = model_or_default(model, "tokenizer", "llm")
    if common.dry_run:
        return show_plan(settings, common, images=[str(file) for file in image], model=str(model))
    from lavit_pretrain.caption import caption_files

    rows = caption_files(image, model, max_tokens=settings.max_tokens, device=common.device, precision=common.precision)
    show({"captions": rows}, common, lines=[f"{row['image']}: {row['caption']}" for row in rows])


@command()
def ask(
    image: options.ImageFile,
    question: options.Question,
    model: ModelOrDefault = None,
    max_tokens: options.MaxTokens = None,
    common: CommonOptions = NO_PRESET,
) -> None:
    """Answer questions about an image."""
    from lavit_pretrain.config import AskSettings

    settings = settings_of(common, AskSettings, flags={"max_tokens": max_tokens})
    model = model_or_default(model, "tokenizer", "llm")
    if common.dry_run:
        return show_plan(settings, common, image=str(image), questions=question, model=str(model))
    from lavit_pretrain.ask import ask_file

    how = {"device": common.device, "precision": common.precision}
    rows = ask_file(image, question, model, max_tokens=settings.max_tokens, **how)
    show({"answers": rows}, common, lines=[row["answer"] for row in rows])
