"""From files to components in memory: read, converted, shared, kept and let go."""
