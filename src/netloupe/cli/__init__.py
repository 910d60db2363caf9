"""The command line: one file per verb. Whatever takes long to import is imported inside functions."""
