"""Forms of the set-up pages. A field error names the field, its value, what was expected and what to do next."""
