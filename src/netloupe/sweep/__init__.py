"""One pass over a data set feeds any number of accumulators, for all layers at once."""
