"""One file for each layout of image data; `detect` asks them in order."""
