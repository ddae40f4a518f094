"""A mock of cuda-python as Iluvatar's samples use it: memory of a card."""
