"""Who comes in, by which door and with how much: one guard around the whole web application.

`table` says which of Gradio's addresses exist here, `asked` what may be in a question, `limits` how much of
it, and `guard` asks them all before anything behind it hears of a request.
"""
