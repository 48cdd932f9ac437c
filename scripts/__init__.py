"""Tools of the maintainers: the documentation site."""
