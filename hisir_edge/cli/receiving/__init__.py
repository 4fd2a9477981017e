"""Commands of those who receive verdicts: people, databases, brokers, machines."""
