"""Generated from proto/ by `make proto`; never edited. What the messages mean is told there."""
