"""midspan fills the gap at the cursor: server -> engine -> kernels."""

__version__ = "0.1.0"
