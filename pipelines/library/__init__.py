"""Which models and add-ons there are and what each is, told from headers without loading anything."""
