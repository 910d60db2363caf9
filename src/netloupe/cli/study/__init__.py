"""`netloupe study VERB`: one file per study."""
