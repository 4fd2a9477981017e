"""From good boards to a trained run: data, corruption, training, thresholds, evaluation."""
