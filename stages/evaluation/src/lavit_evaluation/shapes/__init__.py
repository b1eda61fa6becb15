"""`lavit eval shapes`: questions, captions, drawings judged from pixels, reconstructions and tokens on drawn shapes."""
