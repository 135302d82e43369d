"""LoRAs, LyCORIS adapters and embeddings: beside a model's layers, never in its weights."""
