"""Training: the trainer, experiments, losses, batches and logs."""
