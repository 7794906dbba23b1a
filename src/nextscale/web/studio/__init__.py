"""The studio: a web page to draw, edit, look inside and compare, on Gradio."""
