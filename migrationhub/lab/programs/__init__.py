"""Programs of the lab's applications: copied into its hosts and run there, never imported."""
