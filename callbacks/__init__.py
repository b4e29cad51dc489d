"""What watches a training run."""
