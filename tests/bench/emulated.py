"""What benchmarks on an emulated host share"""

import argparse
import json
import os
import re
import statistics
import subprocess


def arguments(doc):
    """A parser of what all of them take"""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument('top')
    parser.add_argument('directory')
    parser.add_argument('--rounds', type=int, default=7)
    return parser


def host(top, name, scenario, *options):
    """Seconds from power on to the scenario's first line, and the lines"""
    argv = [os.path.join(top, 'tests/host/run'), name, scenario, *options]
    result = subprocess.run(argv, stdout=subprocess.PIPE, text=True)
    found = re.search(r'^\(([0-9.]+) s from power on\)$', result.stdout, re.M)
    if result.returncode or not found:
        print(result.stdout)
        raise RuntimeError('the host failed')
    return float(found[1]), result.stdout.splitlines()


def row(name, unit, values, reference):
    """Paired: a ratio for each turn, the median of them"""
    ratios = [a / b for a, b in zip(values, reference)]
    return {'name': name, 'unit': unit, 'median': statistics.median(values),
            'least': min(values), 'most': max(values),
            'ratio': statistics.median(ratios),
            'ratio_least': min(ratios), 'ratio_most': max(ratios)}


def verdict(what, goal, ratio):
    return (f"{'met    ' if ratio <= goal else 'NOT met'} {what}: at most "
            f'{goal} times: {ratio:.2f}')


def write(directory, name, lines, data):
    """Show the table, and keep it and the data in DIRECTORY/NAME.*"""
    print('\n'.join(lines))
    with open(os.path.join(directory, f'{name}.txt'), 'w') as f:
        f.write('\n'.join(lines) + '\n')
    with open(os.path.join(directory, f'{name}.json'), 'w') as f:
        json.dump(data, f, indent=1)
