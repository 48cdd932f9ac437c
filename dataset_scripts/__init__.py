"""From raw clips to records: everything that makes or reads data, below training and the model."""
