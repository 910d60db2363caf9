"""Fast style: one feed-forward network with many styles, how it is trained and how it is applied."""
