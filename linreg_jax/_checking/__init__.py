"""What `check_gradients` is made of."""
