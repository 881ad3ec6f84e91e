"""What users write and what components hand each other: types, rules and presets, and nothing that does the work."""
