"""The page: what a person touches. It imports gradio, and never torch, diffusers or cv2."""
