"""What a TPU slice takes for a program, from the compiler and without the slice."""
