"""`python -m evaluate_metrics.inspect`: the worst sequences drawn, failures by group; see `--help`."""

from evaluate_metrics.runners.inspection import main

if __name__ == "__main__":
    main()
