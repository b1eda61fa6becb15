"""`lavit eval tokenizer`: what a tokenizer keeps, loses and draws, on images without labels."""
