"""Parts of the page that Gradio has no component for: gr.HTML subclasses with their JavaScript in assets/js."""
