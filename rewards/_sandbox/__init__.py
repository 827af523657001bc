"""Hostile programs, each in a process of its own that can reach nothing: see isolation.py for the walls.

pool.py runs in the trainer. It starts server.py, a small Python without torch, which keeps one worker a core; a worker
forks a process for each program (candidate.py, or callee.py where its functions are called), and a second one for its
tests (tester.py). The two speak over wire.py, and session.py and peer.py say what becomes of each value on either side.
"""
