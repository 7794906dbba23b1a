"""How fast models draw, decode, train and load, beside what the machine can do."""
