"""PyTorch weight files: reading them safely, their names, and conversion both ways."""
