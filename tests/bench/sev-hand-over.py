"""For how long a SEV guest does not run when it is handed over, against a plain
guest, on the same emulated host.

usage: sev-hand-over.py TOP DIRECTORY [--rounds N] [--cases MIB:CPUS,...]

The two are handed over in turns.  Medians, ratios and their spread go to
DIRECTORY/sev-hand-over.txt and .json.
"""

import statistics
import sys

from emulated import arguments, host, row, verdict, write

GOAL = 1.2
CASES = '64:1,1024:1,8192:1,64:2,64:4,64:8'
# MiB of the emulated host, beside those of the largest SEV guest
MEMORY = 2560


def main():
    parser = arguments(__doc__)
    parser.add_argument('--cases', default=CASES)
    args = parser.parse_args()

    largest = max(int(case.split(':')[0]) for case in args.cases.split(','))
    _, lines = host(args.top, 'sev', 'bench-hand-over',
                    '--memory', f'{largest + MEMORY}M',
                    '--limit', '3000', '--append', f'rounds={args.rounds}',
                    '--append', f'cases={args.cases}')
    samples = {}
    for line in lines:
        words = line.split()
        if words[:1] == ['bench:']:
            case = (int(words[2]), int(words[3]))
            samples.setdefault(case, {'plain': [], 'sev': []})
            samples[case][words[1]].append(int(words[4]) / 1000)
    out = ['{:24} {:>12} {:>15} {:>12} {:>15} {:>6} {:>12}'.format(
        'blackout (ms)', 'plain', '(least-most)', 'SEV', '(least-most)',
        'ratio', '(least-most)')]
    rows = []
    for (mib, cpus), s in samples.items():
        plain = row(f'{mib} MiB, {cpus} CPUs', 'ms', s['plain'], s['plain'])
        r = row(f'{mib} MiB, {cpus} CPUs', 'ms', s['sev'], s['plain'])
        # the ratio of medians: a round's noise is as large as what it measures
        r['ratio_of_medians'] = r['median'] / plain['median']
        rows.append(r)
        out.append('{:24} {:12.1f} {:>15} {:12.1f} {:>15} {:6.2f} {:>12}'.format(
            r['name'], plain['median'],
            f"{plain['least']:.1f}-{plain['most']:.1f}", r['median'],
            f"{r['least']:.1f}-{r['most']:.1f}", r['ratio_of_medians'],
            f"{r['ratio_least']:.2f}-{r['ratio_most']:.2f}"))
    out.append('')
    out.append(f'{args.rounds} rounds; ratio: of the medians, in parentheses '
               'those of single rounds')
    for r in rows:
        out.append(verdict(r['name'], GOAL, r['ratio_of_medians']))
    by_ram = sorted((mib, statistics.median(s['sev']))
                    for (mib, cpus), s in samples.items() if cpus == 1)
    if len(by_ram) > 1:
        (least, short), (most, long) = by_ram[0], by_ram[-1]
        out.append(verdict(f'flat in RAM, {most} MiB against {least} MiB', GOAL,
                           long / short))
    write(args.directory, 'sev-hand-over', out,
          [{'mib': mib, 'cpus': cpus, **s}
           for (mib, cpus), s in samples.items()])
    return 0


if __name__ == '__main__':
    sys.exit(main())
