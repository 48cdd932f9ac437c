"""`python -m evaluate_metrics.results`: docs/results.md from nothing, by one command; see `--help`."""

from evaluate_metrics.runners.results_page import main

if __name__ == "__main__":
    main()
