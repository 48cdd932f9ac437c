"""`python -m dataset_scripts.synthetic`."""

from .write import main

main()
