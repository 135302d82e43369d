"""The engine: models, samplers and runs. Importing it imports no torch; it never imports gradio."""
