"""What `predict` takes, does and returns: request, pass, answer, prediction, trust."""
