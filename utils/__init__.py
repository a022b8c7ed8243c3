"""What every script shares: audio, hyperparameters, checkpoints, the trainer, pictures."""
