"""`lavit data preview`: a data set as a model will see it, on one page."""
