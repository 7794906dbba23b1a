"""The studio: a Gradio page to generate, edit, inspect and compare images."""
