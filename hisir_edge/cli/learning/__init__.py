"""Commands of the engineering PC: boards, training, teaching, building, evaluating."""
