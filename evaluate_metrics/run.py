"""`python -m evaluate_metrics.run`: a model or baselines on a benchmark; see `--help`."""

from evaluate_metrics.runners.command import main

if __name__ == "__main__":
    main()
