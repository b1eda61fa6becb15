# %% [markdown]
# # An image as words
#
# A LaVIT model writes an image as a few *codes*, which are words to its language model, and draws it back from them.
# This notebook looks at the codes of an image, changes them, and draws what they become.
#
# It is a Python file whose cells begin with `# %%`: Jupyter opens it with jupytext (`pip install jupytext`), editors
# open it as it is, and `python examples/notebooks/codes.py` runs it. Train a model with `make demo`, or name yours in
# `LAVIT_MODEL`.

# %%
import os

import numpy as np
from lavit import LaVIT
from lavit_core.shown_images import dim_dropped, enlarge, in_grid
from PIL import Image

model = LaVIT.from_pretrained(os.environ.get("LAVIT_MODEL", "runs/demo/model"))
print(model)


# %%
def sheet(*images):
    """Return images side by side, enlarged so that their pixels stay sharp."""
    px = model.image_px
    squares = [
        np.asarray(Image.fromarray(np.asarray(image)).resize((px, px), Image.Resampling.NEAREST)) for image in images
    ]
    return Image.fromarray(in_grid([enlarge(square, 160) for square in squares], columns=len(squares)))


# %% [markdown]
# ## Two images to work on
#
# The model draws them itself. `Image.open("yours.png")` does as well.

# %%
one, other = model.generate(["a red circle", "a blue square"], seeds=[1, 2])
sheet(one, other)

# %% [markdown]
# ## Which patches become codes
#
# The selector keeps the patches that say something; the merger adds to them what the dropped ones show. There are as
# many codes as kept patches, so a plain image is a short sentence.

# %%
tokens = model.encode([one, other])
for codes, kept in zip(tokens.codes, tokens.keep_mask, strict=True):
    print(f"{len(codes)} of {kept.size} patches are kept; their codes: {codes.tolist()}")
sheet(
    *(
        dim_dropped(np.asarray(image), kept, model.grid)
        for image, kept in zip((one, other), tokens.keep_mask, strict=True)
    )
)

# %% [markdown]
# ## Back from the codes
#
# The detokenizer sees the codes alone. With another seed it draws another image of the same codes: what stays is what
# the codes hold.

# %%
first, second = tokens.codes
sheet(*model.decode([first, first, first], seeds=[0, 1, 2]))

# %% [markdown]
# ## Editing the codes
#
# Half of the codes of one image and half of the other's; the codes in another order; and one code in place of all.

# %%
half = np.concatenate([first[: len(first) // 2], second[len(second) // 2 :]])
turned = first[::-1].copy()
single = np.full_like(first, first[len(first) // 2])
sheet(*model.decode([half, turned, single], seeds=[0, 0, 0]))

# %% [markdown]
# ## What the language model makes of them
#
# To the language model codes are words in a row: it says how likely they are, and reads what it is shown. Codes in
# another order say less.

# %%
likely = model.score_codes([""] * 3, [first, turned, single])
for name, codes, value in zip(("as encoded", "backwards", "one code"), (first, turned, single), likely, strict=True):
    print(f"{name}: {value / (len(codes) + 1):.2f} nats a code")

# %%
print(model.caption([one, other]))
print(model.answer(one, ["what shape is there?", "what colour is the circle?"]))
