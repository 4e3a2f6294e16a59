#!/usr/bin/env python3
"""The time of a training step by n workers, by the model of docs/scaling.md.

    python3 examples/cluster/step_time.py --leaf 0.37 --parameters 47.5e6 --bandwidth 1.2e9
"""

import argparse
import math

flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
flags.add_argument("--batch-seconds", type=float, required=True, help="a step of the whole batch by one worker, s")
flags.add_argument("--step-seconds", type=float, default=0.0, help="of these, Adam and all else a worker does alone, s")
flags.add_argument("--parameters", type=float, required=True, help="numbers in the gradient")
flags.add_argument("--bandwidth", type=float, required=True, help="bytes a second that a worker sends and receives")
flags.add_argument("--latency", type=float, default=50e-6, help="of a message, s")
flags.add_argument("--memory", type=float, default=5e9, help="bytes a second of copying and adding gradients")
flags.add_argument("--most", type=int, default=256, help="workers at most (= leaves)")
given = flags.parse_args()

alone = None
print(f"{'workers':>7} {'step':>10} {'of it sums':>10} {'speed-up':>8} {'efficiency':>10}")
n = 1
while n <= given.most:
    gradient = 4.0 * given.parameters
    moved = 2.0 * (1.0 - 1.0 / n) * gradient
    sums = 0.0
    if n > 1:
        rounds = 2 * math.log2(n)
        sums = moved / given.bandwidth + rounds * given.latency + (2.0 * gradient + moved / 2.0) / given.memory
    step = (given.batch_seconds - given.step_seconds) / n + given.step_seconds + sums
    alone = alone or step
    print(f"{n:7} {step:9.3f}s {sums:9.3f}s {alone / step:8.2f} {alone / step / n:10.2f}")
    n *= 2
