"""The studio: a network looks at your own photo, live in the browser."""
