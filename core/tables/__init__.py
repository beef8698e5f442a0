"""Tables: columns of numbers, categories and dates, and the numbers that stand for them."""
