"""Looking before a migration: facts gathered from both servers and this machine, then judged.

gather.py asks (all I/O is there and in the two side files), judge.py decides (pure functions over the facts).
"""
