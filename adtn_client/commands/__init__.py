"""The verbs of the command `adtn`, one file each."""
