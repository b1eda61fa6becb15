"""`lavit bench`: two ways to do the same work, held equal and then timed in turns."""
