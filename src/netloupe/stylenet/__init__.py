"""Fast style: one feed-forward network with many styles, and how it is applied."""
