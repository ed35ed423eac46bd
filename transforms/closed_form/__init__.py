"""The closed form of train as sums over parts of the users, done by the workers."""
