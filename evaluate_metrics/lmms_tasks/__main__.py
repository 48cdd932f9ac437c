"""`python -m evaluate_metrics.lmms_tasks`: a tracking benchmark as tasks of lmms-eval; see `--help`."""

from evaluate_metrics.runners.lmms_folder import main

if __name__ == "__main__":
    main()
