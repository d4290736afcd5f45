"""Answers to the suite ``code`` by question: one that is right, and one with a mistake that models make."""

from __future__ import annotations

RIGHT = {
    "prime-ja": """
def is_prime(n):
    if n < 2:
        return False  # 2 未満は素数ではない
    return all(n % d for d in range(2, int(n ** 0.5) + 1))
""",
    "palindrome-zh": """
def is_palindrome(text):
    kept = [c for c in text.lower() if c.isalnum()]  # 只留字母、数字和汉字
    return kept == kept[::-1]
""",
    "roman-en": """
SIGNS = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
         (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
def to_roman(n):
    if not 1 <= n <= 3999:
        raise ValueError(n)
    text = ""
    for value, sign in SIGNS:
        text += sign * (n // value)
        n %= value
    return text
""",
    "intervals-en": """
def merge(intervals):
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged
""",
    "words-zh": """
import re
from collections import Counter
def top_words(text, k):
    counts = Counter(re.findall("[a-z]+", text.lower()))
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:k]
""",
    "fizz-ja": """
def fizzbuzz(n):
    return [("Fizz" * (i % 3 == 0) + "Buzz" * (i % 5 == 0)) or str(i) for i in range(1, n + 1)]
""",
    "csv-en": """
import csv, io
def column_sum(text, name):
    return sum((float(row[name]) for row in csv.DictReader(io.StringIO(text)) if row[name]), 0.0)
""",
    "change-zh": """
def coins(amount, values):
    least = [0] + [amount + 1] * amount
    for total in range(1, amount + 1):
        least[total] = min([least[total - v] + 1 for v in values if v <= total], default=amount + 1)
    return least[amount] if least[amount] <= amount else -1
""",
}

WRONG = {
    "prime-ja": """
def is_prime(n):
    return n > 1 and all(n % d for d in range(2, int(n ** 0.5)))  # stops before the root
""",
    "palindrome-zh": """
def is_palindrome(text):
    return text == text[::-1]  # looks at spaces and marks
""",
    "roman-en": """
def to_roman(n):  # no subtraction, no bounds
    text = ""
    for value, sign in [(1000, "M"), (500, "D"), (100, "C"), (50, "L"), (10, "X"), (5, "V"), (1, "I")]:
        text += sign * (n // value)
        n %= value
    return text
""",
    "intervals-en": """
def merge(intervals):
    intervals.sort()  # changes the argument
    merged = []
    for start, end in intervals:
        if merged and start < merged[-1][1]:  # those that touch stay apart
            merged[-1] = [merged[-1][0], max(merged[-1][1], end)]
        else:
            merged.append([start, end])
    return merged
""",
    "words-zh": """
from collections import Counter
def top_words(text, k):
    return Counter(text.lower().split()).most_common(k)  # marks stay on, ties as they come
""",
    "fizz-ja": """
def fizzbuzz(n):
    return ["Fizz" if i % 3 == 0 else "Buzz" if i % 5 == 0 else str(i) for i in range(1, n + 1)]  # never both
""",
    "csv-en": """
def column_sum(text, name):
    head, *rows = text.strip().split("\\n")
    place = head.split(",").index(name)
    return float(sum(float(row.split(",")[place]) for row in rows))  # quotes and empty cells
""",
    "change-zh": """
def coins(amount, values):
    count = 0
    for value in sorted(values, reverse=True):  # the largest first
        count += amount // value
        amount %= value
    return -1 if amount else count
""",
}
