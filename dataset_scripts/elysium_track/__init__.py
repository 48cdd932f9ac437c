"""ElysiumTrack as a data set of the Hub: the builder, and the command that publishes a build without any script."""
