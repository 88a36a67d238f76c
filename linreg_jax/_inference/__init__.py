"""What the coefficients are worth, in parts."""
