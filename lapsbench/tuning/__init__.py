"""From a question to a setting: search settings on one part of the traffic, and prove the best on another."""
