"""What a step of `lavit pretrain` costs, by the formulas of `lavit_trainkit.cost`.

Letters: T tokens of a step, S scored ones, L layers, H hidden width, M width inside the MLP, V vocabulary.
"""

import dataclasses
from typing import Any

from lavit_tokenizer.api import KEPT, Encoder, TokenizerConfig, encoder_cost, merger_cost, tokenizer_on_meta_device
from lavit_trainkit.cost import Cost, Step, attention, backward_of, count, matrices
from lavit_trainkit.optimizers import layer_matrices
from lavit_trainkit.parallel import layers_of

from lavit_pretrain.config import PretrainConfig
from lavit_pretrain.loss import CHUNK_ROWS

QUESTION_TOKENS, ANSWER_TOKENS = 16, 3
"""Tokens of a question in its prompt, and of an answer with its end, about."""

KEPT_HIDDEN = {"fp32": 42.5, "bf16": 25.75}
"""Bytes that a LLaMA layer keeps for its backward pass in each token and unit of H: norms, projections, residuals,
counted on small layers (a test counts them again)."""
KEPT_MLP = {"fp32": 16.0, "bf16": 8.0}
"""The same for each unit of M: gate, its activation, the other branch, their product."""
KEPT_SCORE = {"fp32": 4.0, "bf16": 2.0}
"""The same for each attention weight: on a CPU alone, the GPU's kernel keeps none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Documents:
    """What a packed step holds on average."""

    length: float
    """Tokens of a document."""
    keys: float
    """Tokens of the document that a token stands in."""
    scored: float
    """Share of the tokens that are scored."""
    images_read: float
    """Images in front of a text, for each token."""
    read_rows: float
    """Rows of such images, for each token."""


def expected_documents(
    config: PretrainConfig, *, mean_codes: float, caption: float, questions: bool, text: bool
) -> Documents:
    """Return what a step holds, from the mix and the mean lengths of images (codes) and captions (tokens)."""
    sees = config.image_input != "none"
    image = mean_codes + 2 if sees else 1.0
    words = (1 - config.caption_drop) * caption
    scored_image = mean_codes if config.i2t_image_loss and sees else 0.0
    asked = config.questions_per_document * (QUESTION_TOKENS + ANSWER_TOKENS)
    answers = asked if config.question_text_loss else config.questions_per_document * ANSWER_TOKENS
    # Kind: length, scored tokens, images read.
    kinds = {
        "text_to_image": (words + image, mean_codes + 1 + (words if config.t2i_text_loss else 0.0), 0.0),
        "image_to_text": (image + caption + 1, caption + 1 + scored_image, float(sees)),
        "questions": (image + asked, answers + scored_image, float(sees)),
        "text": (float(config.max_text_tokens), float(config.max_text_tokens), 0.0),
    }
    shares = config.mix.model_dump()
    absent = {"text_to_image": not sees, "questions": not questions, "text": not text}
    shares = {kind: 0.0 if absent.get(kind) else share for kind, share in shares.items()}
    total = sum(shares.values()) or 1.0
    tokens = sum(shares[kind] * length for kind, (length, _, _) in kinds.items()) or 1.0
    read = sum(shares[kind] * images for kind, (_, _, images) in kinds.items())
    return Documents(
        length=tokens / total,
        keys=sum(shares[kind] * length**2 for kind, (length, _, _) in kinds.items()) / tokens,
        scored=sum(shares[kind] * scored for kind, (_, scored, _) in kinds.items()) / tokens,
        images_read=read / tokens,
        read_rows=read * mean_codes / tokens,
    )


def pretrain_step(
    config: PretrainConfig,
    llm: Any,
    shape: TokenizerConfig,
    documents: Documents,
    *,
    encoder: Encoder | None = None,
    on_cpu: bool,
) -> Step:
    """Return a step of a language model, and of the encoder it sees by (live), that lie on the meta device."""
    tokens = config.tokens_per_step * config.accumulate_steps
    costs = [_llm_cost(config, llm, documents, on_cpu=on_cpu)]
    width = int(llm.config.hidden_size)
    if config.image_input in ("features", "live"):
        weights = shape.feature_dim * width
        forward = 2.0 * weights * tokens * documents.read_rows
        rows = config.tokens_per_step * documents.read_rows
        costs.append(
            Cost(
                name="projector", parameters=weights + width, trained=weights + width, forward=forward,
                backward=backward_of(forward, trained=True),
                kept_bytes=rows * shape.feature_dim * KEPT_SCORE[config.precision],
            )
        )  # fmt: skip
    rest = 0
    if encoder is not None:
        images = tokens * documents.images_read
        merger = tokenizer_on_meta_device(shape).merger
        costs.append(encoder_cost(encoder, images))
        costs.append(
            merger_cost(
                merger, shape, images, kept=KEPT[config.precision], on_cpu=on_cpu, dense=shape.released_softmax,
                kept_images=config.tokens_per_step * documents.images_read, trained=True,
            )
        )  # fmt: skip
        rest = count(merger)
    blocks = [count(layer) for layer in layers_of(llm.get_decoder())]
    scored = min(CHUNK_ROWS, config.tokens_per_step * documents.scored)
    vocabulary = int(llm.config.vocab_size)
    low = config.precision == "bf16"
    return Step(
        name="pretrain",
        unit="token",
        units=tokens,
        costs=tuple(costs),
        num_steps=config.num_steps,
        low_weights=low,
        low_gradients=low,
        # Weights and gradients in the precision that computes, and gradients as they are summed, in fp32.
        gathered_bytes=2 * (2.0 if low else 4.0) + 4.0,
        gathered=max(blocks) + count(llm) - sum(blocks) + rest,
        # Log-probabilities, their gradient in low precision, and the gradient of the head in fp32.
        workspace_bytes=scored * vocabulary * (10 if low else 12) + 4.0 * vocabulary * width,
    )


def _llm_cost(config: PretrainConfig, llm: Any, documents: Documents, *, on_cpu: bool) -> Cost:
    about, precision = llm.config, config.precision
    tokens, passed = config.tokens_per_step * config.accumulate_steps, config.tokens_per_step
    layers, hidden, heads = len(layers_of(llm.get_decoder())), int(about.hidden_size), int(about.num_attention_heads)
    width = heads * int(getattr(about, "head_dim", None) or hidden // heads)
    inside = 2.0 * matrices(llm.get_decoder()) * tokens + layers * attention(tokens, documents.keys, width)
    head = 2.0 * tokens * documents.scored * hidden * int(about.vocab_size)
    layer = passed * (KEPT_HIDDEN[precision] * hidden + KEPT_MLP[precision] * int(about.intermediate_size))
    layer += passed * heads * documents.keys * KEPT_SCORE[precision] if on_cpu else 0.0
    inputs = passed * hidden * KEPT_SCORE[precision]
    kept = inputs * layers + layer if config.gradient_checkpointing else layer * layers
    return Cost(
        name="llm",
        parameters=count(llm),
        trained=count(llm),
        muon=sum(parameter.numel() for parameter in layer_matrices(llm)) if config.optimizer == "muon" else 0,
        forward=inside + head,
        backward=backward_of(inside + head, trained=True),
        again=inside if config.gradient_checkpointing else 0.0,
        kept_bytes=kept,
    )
