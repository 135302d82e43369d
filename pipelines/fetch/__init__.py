"""Models brought onto this disk: the catalogue, the Hugging Face hub and other addresses."""
