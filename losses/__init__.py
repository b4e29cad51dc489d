"""One loss per file: pure functions of tensors."""
