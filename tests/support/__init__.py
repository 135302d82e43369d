"""What tests share: small real models, made offline in seconds."""
