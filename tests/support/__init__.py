"""What tests share: an in-memory network, builders of messages, strategies."""
