"""`python -m evaluate_metrics.effects`: what the options of tracking change; see `--help`."""

from evaluate_metrics.runners.effects import main

if __name__ == "__main__":
    main()
