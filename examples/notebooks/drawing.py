# %% [markdown]
# # Drawing, from Python
#
# What a seed changes, what the guidance scale does, and prompts that hold images: the choices of `lavit generate`,
# through the `LaVIT` object, which loads its model once.
#
# It is a Python file whose cells begin with `# %%`: Jupyter opens it with jupytext (`pip install jupytext`), editors
# open it as it is, and `python examples/notebooks/drawing.py` runs it. Train a model with `make demo`, or name yours in
# `LAVIT_MODEL`.

# %%
import os

import numpy as np
from lavit import LaVIT
from lavit_core.shown_images import enlarge, in_grid
from PIL import Image

model = LaVIT.from_pretrained(os.environ.get("LAVIT_MODEL", "runs/demo/model"))
PROMPT = "a red circle above a blue square"


def sheet(images, columns):
    """Return images in a grid, enlarged so that their pixels stay sharp."""
    return Image.fromarray(in_grid([enlarge(np.asarray(image), 160) for image in images], columns=columns))


# %% [markdown]
# ## Seeds
#
# The language model draws codes, the detokenizer draws pixels from them, and each image's seed decides both. The same
# prompt and seed are the same image, whatever else is drawn beside it; `seeds=0` numbers the images from 0.

# %%
four = model.generate([PROMPT] * 4, seeds=0)
[again] = model.generate(PROMPT, seeds=2)
difference = np.abs(np.asarray(four[2], dtype=int) - np.asarray(again, dtype=int)).max()
print(f"seed 2, alone and beside three others: values differ by at most {difference} of 255")
sheet(four, columns=4)

# %% [markdown]
# Seeds can be split: the same codes with other pixels, by `sample` and `decode`. What stays the same is what the
# language model said; the rest is the detokenizer's.

# %%
[codes] = model.sample(PROMPT, seeds=0)
print(f"{len(codes)} codes: {codes.tolist()}")
sheet(model.decode([codes] * 4, seeds=[0, 1, 2, 3]), columns=4)

# %% [markdown]
# ## The guidance scale
#
# At each code the model compares what it would draw of the prompt with what it would draw of no prompt, and goes
# further in the direction of the difference. 0 draws without the prompt, 1 is the model as it is, and more draws what
# the prompt makes likelier. A row a scale, the same four seeds.

# %%
SCALES = (0, 1, model.sample_settings().guidance_scale)
rows = [model.generate([PROMPT] * 4, seeds=0, guidance_scale=scale) for scale in SCALES]
for scale in SCALES:
    drawn = model.sample([PROMPT] * 4, seeds=0, settings=model.sample_settings(guidance_scale=scale))
    likely = model.score_codes([PROMPT] * 4, drawn) - model.score_codes([""] * 4, drawn)
    print(f"guidance scale {scale:g}: the prompt makes the codes likelier by {likely.mean():.1f} nats")
sheet([image for row in rows for image in row], columns=4)

# %% [markdown]
# ## Prompts with images
#
# `<image>` in a prompt is where one of its images is read. The demo's model was trained on captions and questions
# alone, so do not expect it to edit.

# %%
one, other = four[:2]
edited = model.generate([["<image> a green star", one], ["<image> and <image>: a green star", one, other]], seeds=0)
sheet([one, other, *edited], columns=4)

# %% [markdown]
# ## Asking
#
# Questions about an image, with the conversation before each; and one about two images, which hold their places in it.

# %%
for question in ("what shape is red?", "what color is the square?"):
    print(f"{question} {model.answer(one, question)[0]}")
earlier = [[("what shape is red?", "circle")]]
print("and blue?", model.answer(one, "what shape is blue?", earlier=earlier)[0])
print(model.answer(None, [["<image> and <image>: what shape is red in both?", one, other]])[0])
