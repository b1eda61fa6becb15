"""Model and losses of `train-encoder`, around the small ViT: contrastive (CLIP), captioning, pixel regression.

Letters: B pairs, P patches, L text positions, D width, E shared embedding width.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

from lavit_tokenizer.config import TrainEncoderConfig
from lavit_tokenizer.layers import init_transformer
from lavit_tokenizer.small_vit import VIT_EPS, Block, SmallVit, attend

PAD, UNKNOWN = "[PAD]", "[UNK]"


def fit_text_tokenizer(captions: Iterator[str], vocabulary_size: int) -> Tokenizer:
    """Learn byte-pair merges from captions (lower-cased, split at spaces and punctuation)."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary_size, special_tokens=[PAD, UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    return tokenizer


def text_ids(tokenizer: Tokenizer, captions: Sequence[str], length: int) -> Tensor:
    """Return int64 ids [B, L], cut at `length`, padded with 0 to the longest; an empty caption is one unknown piece."""
    rows = [encoding.ids[:length] or [1] for encoding in tokenizer.encode_batch(list(captions))]
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


class TextTower(nn.Module):
    """Bidirectional transformer over word pieces, mean over real positions."""

    def __init__(self, vocabulary_size: int, *, width: int, layers: int, heads: int, length: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary_size, width)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList([Block(width, heads, 4 * width) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, eps=VIT_EPS)
        nn.init.normal_(self.embed.weight, std=0.02)
        init_transformer(self, width)

    def forward(self, ids_BL: Tensor) -> Tensor:
        """Return [B, D]; id 0 is padding."""
        open_BL = ids_BL != 0
        x_BLD = self.embed(ids_BL) + self.pos_embed[: ids_BL.shape[1]]
        for block in self.blocks:
            x_BLD = block(x_BLD, open_BL[:, None, None, :])
        weight = open_BL.unsqueeze(-1).to(x_BLD.dtype)
        return (self.norm(x_BLD) * weight).sum(1) / weight.sum(1)


class ReadingBlock(nn.Module):
    """Causal self-attention over words, cross-attention to patches, MLP."""

    def __init__(self, width: int, heads: int, context_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.words = Block(width, heads, 4 * width)
        self.norm = nn.LayerNorm(width, eps=VIT_EPS)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BLD: Tensor, patches_BPD: Tensor, causal_LL: Tensor) -> Tensor:
        """Return [B, L, D]."""
        batch, length, width = x_BLD.shape
        q = self.query(self.norm(x_BLD)).view(batch, length, self.heads, -1).transpose(1, 2)
        k, v = self.key_value(patches_BPD).view(batch, -1, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.words(x_BLD + self.proj(attend(q, k, v)), causal_LL)


class Captioner(nn.Module):
    """Predicts every word piece of the caption from the patches and the pieces before it."""

    def __init__(
        self, vocabulary_size: int, *, width: int, layers: int, heads: int, length: int, context_width: int
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary_size, width)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList([ReadingBlock(width, heads, context_width) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, eps=VIT_EPS)
        self.head = nn.Linear(width, vocabulary_size)
        nn.init.normal_(self.embed.weight, std=0.02)
        init_transformer(self, width)

    def forward(self, patches_BPD: Tensor, ids_BL: Tensor) -> Tensor:
        """Return logits [B, L, V] of each position's own piece; position 0 sees the padding id as a start sign."""
        length = ids_BL.shape[1]
        before = F.pad(ids_BL[:, :-1], (1, 0))
        x_BLD = self.embed(before) + self.pos_embed[:length]
        causal = torch.ones(length, length, dtype=torch.bool, device=ids_BL.device).tril()
        for block in self.blocks:
            x_BLD = block(x_BLD, patches_BPD, causal)
        return self.head(self.norm(x_BLD))


class ContrastiveModel(nn.Module):
    """The small ViT, and the heads that exist for its training only."""

    def __init__(self, config: TrainEncoderConfig, vocabulary_size: int) -> None:
        super().__init__()
        width = config.vision.width
        layers = config.vision.layers + config.head_layers
        self.vision = SmallVit(config.vision.model_copy(update={"layers": layers}))
        self.text = TextTower(
            vocabulary_size,
            width=config.text_width,
            layers=config.text_layers,
            heads=config.text_heads,
            length=config.text_tokens,
        )
        self.norm = nn.LayerNorm(width, eps=VIT_EPS)
        self.image_proj = nn.Linear(width, config.embed_dim)
        self.text_proj = nn.Linear(config.text_width, config.embed_dim)
        self.captioner = Captioner(
            vocabulary_size,
            width=config.text_width,
            layers=config.text_layers,
            heads=config.text_heads,
            length=config.text_tokens,
            context_width=width,
        )
        self.config = config
        self.pixel_head = nn.Linear(width, patch_targets(config))
        # CLIP's start: temperature 0.07. One row, not a scalar: FSDP2 shards rows.
        self.log_scale = nn.Parameter(torch.tensor([1 / 0.07]).log())

    def forward(self, pixels_B3HW: Tensor, ids_BL: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return unit embeddings of images and texts [B, E], word logits [B, L, V], pixels by patch [B, P, ...]."""
        registers = self.config.vision.registers
        rows = self.norm(self.vision.rows(pixels_B3HW))
        features = rows[:, registers:]
        whole = rows[:, :registers] if registers else features
        image = F.normalize(self.image_proj(whole.mean(1)).float(), dim=-1)
        text = F.normalize(self.text_proj(self.text(ids_BL)).float(), dim=-1)
        return image, text, self.captioner(features, ids_BL).float(), self.pixel_head(features).float()


def clip_loss(image_BE: Tensor, text_BE: Tensor, log_scale: Tensor) -> Tensor:
    """Symmetric cross-entropy over the batch's similarities; the scale is held at 100 at most, as in CLIP."""
    logits = log_scale.clamp(max=4.6052).exp() * image_BE @ text_BE.T
    own = torch.arange(logits.shape[0], device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def caption_loss(logits_BLV: Tensor, ids_BL: Tensor) -> Tensor:
    """Mean cross-entropy over word pieces; padding (id 0) does not count."""
    return F.cross_entropy(logits_BLV.flatten(0, 1), ids_BL.flatten(), ignore_index=0)


def patch_pixels(pixels_u8: Tensor, patch_px: int, context_patches: int = 1) -> Tensor:
    """Return pixels on the [0, 1] scale by patch, [B, P, 3 * patch^2] and more, from uint8 [B, px, px, 3].

    With a context above 1, the patch's own pixels are followed by its neighbourhood's at half resolution.
    """
    scaled = (pixels_u8.float() / 255).permute(0, 3, 1, 2)
    own = F.unfold(scaled, patch_px, stride=patch_px).transpose(1, 2)
    if context_patches == 1:
        return own
    half = patch_px // 2
    border = (context_patches // 2) * half
    small = F.pad(F.avg_pool2d(scaled, 2), (border,) * 4, mode="replicate")
    around = F.unfold(small, context_patches * half, stride=half).transpose(1, 2)
    return torch.cat([own, around], dim=-1)


def patch_targets(config: TrainEncoderConfig) -> int:
    """Return the number of pixel values a patch regresses."""
    patch_px, context = config.vision.patch_px, config.context_patches
    return 3 * patch_px**2 + (3 * (context * patch_px // 2) ** 2 if context > 1 else 0)


@torch.no_grad()
def retrieval_top1(image_NE: Tensor, text_NE: Tensor, captions: Sequence[str]) -> float:
    """Return the share of images whose most similar caption is one of their own text (equal captions count as one)."""
    best = (image_NE @ text_NE.T).argmax(dim=1).tolist()
    return sum(captions[found] == captions[own] for own, found in enumerate(best)) / max(1, len(best))
