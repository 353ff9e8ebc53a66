"""The right engine for each request: filters, a choice, a hedge or a fallback, and a record of it. See docs/router.md."""
