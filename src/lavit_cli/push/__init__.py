"""`lavit push` and `lavit tokens push`: a model or token directory on the Hugging Face hub, with a card."""
