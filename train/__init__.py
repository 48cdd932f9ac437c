"""Training on top of everything else: nothing outside this folder imports it."""
