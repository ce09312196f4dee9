"""Operations of a network on activations that are changed in boxes only, by family."""
