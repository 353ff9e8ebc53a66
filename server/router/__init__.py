"""The right engine for each request: filters, a choice, a hedge or a fallback, and a record. See docs/router.md."""
