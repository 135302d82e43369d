"""Who comes in, by which door and with how much: one guard around the whole web application.

`connections` waits for a request, `table` says which of Gradio's addresses exist here, `asked` what may be in
a question, `limits` how much of it, and `guard` asks them before anything behind it hears of a request.
"""
