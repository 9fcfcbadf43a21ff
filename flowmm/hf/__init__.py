"""The only folder that knows transformers."""
