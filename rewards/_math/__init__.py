"""The mathematics of rewards.math_answer: reading answers, and comparing them by value.

spelling, latex, words and structure read an answer into a tree; compare and real_sets compare trees part by part; numeric
compares the formulas at their leaves, by rationals and intervals. Each is pure, and linear in the answer's length.
"""
