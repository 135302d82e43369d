"""Parts of the page that Gradio has no component for; their JavaScript is in assets/js."""
