"""`python -m evaluate_metrics.judge`: answers to questions before a judge; see `--help`."""

from evaluate_metrics.runners.judged import main

if __name__ == "__main__":
    main()
