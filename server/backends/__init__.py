"""Engines on other servers, as the user has configured them, and as the router takes them."""
