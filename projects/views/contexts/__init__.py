"""One context builder per region: what page and live region share."""
