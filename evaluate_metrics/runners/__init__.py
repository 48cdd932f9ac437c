"""Runners: a model and a benchmark in, a table out. They stand above the metric modules and read their folders."""
