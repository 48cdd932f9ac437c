"""`python -m evaluate_metrics.report`: scores, tables and plots from results; see `--help`."""

from evaluate_metrics.runners.reporting import main

if __name__ == "__main__":
    main()
