"""What reading chunks is made of."""
