"""What `bench/faults.py` is made of: the harm, the processes that it is done to, the comparison of
all records, and the counts.
"""
