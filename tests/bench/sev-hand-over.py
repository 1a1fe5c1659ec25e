"""For how long a SEV guest does not run when it is handed over, against a plain
guest, and a SEV-ES guest against a SEV guest, on the same emulated host.

usage: sev-hand-over.py TOP DIRECTORY [--rounds N]
                        [--cases FIRST:SECOND:MIB:CPUS,...]

FIRST and SECOND are plain, sev or es.  The two are handed over in turns.
Medians, ratios and their spread go to DIRECTORY/sev-hand-over.txt and .json.
"""

import statistics
import sys

from emulated import arguments, host, row, verdict, write

GOAL = 1.2
NAMES = {'plain': 'plain', 'sev': 'SEV', 'es': 'SEV-ES'}
CASES = ','.join([f'plain:sev:{case}' for case in
                  ('64:1', '1024:1', '8192:1', '64:2', '64:4', '64:8')] +
                 [f'sev:es:{case}' for case in
                  ('64:1', '1024:1', '64:2', '64:4')])
# MiB of the emulated host, beside those of the largest guest
MEMORY = 2560


def main():
    parser = arguments(__doc__)
    parser.add_argument('--cases', default=CASES)
    args = parser.parse_args()

    # only guests with protection have all of their memory
    largest = max(int(c[2]) * (2 if c[0] != 'plain' else 1)
                  for c in (case.split(':') for case in args.cases.split(',')))
    _, lines = host(args.top, 'sev', 'bench-hand-over',
                    '--memory', f'{largest + MEMORY}M',
                    '--limit', '3000', '--append', f'rounds={args.rounds}',
                    '--append', f'cases={args.cases}')
    samples = {}
    for line in lines:
        words = line.split()
        if words[:1] == ['bench:']:
            first, second, kind = words[1:4]
            case = (first, second, int(words[4]), int(words[5]))
            samples.setdefault(case, {first: [], second: []})
            samples[case][kind].append(int(words[6]) / 1000)
    out = ['{:32} {:>10} {:>15} {:>10} {:>15} {:>6} {:>12}'.format(
        'blackout (ms) of B against A', 'A', '(least-most)', 'B', '(least-most)',
        'ratio', '(least-most)')]
    rows = []
    for (first, second, mib, cpus), s in samples.items():
        name = f'{NAMES[second]} against {NAMES[first]}, {mib} MiB, {cpus} CPUs'
        a = row(name, 'ms', s[first], s[first])
        r = row(name, 'ms', s[second], s[first])
        # the ratio of medians: a round's noise is as large as what it measures
        r['ratio_of_medians'] = r['median'] / a['median']
        rows.append(r)
        out.append('{:32} {:10.1f} {:>15} {:10.1f} {:>15} {:6.2f} {:>12}'.format(
            r['name'], a['median'],
            f"{a['least']:.1f}-{a['most']:.1f}", r['median'],
            f"{r['least']:.1f}-{r['most']:.1f}", r['ratio_of_medians'],
            f"{r['ratio_least']:.2f}-{r['ratio_most']:.2f}"))
    out.append('')
    out.append(f'{args.rounds} rounds; ratio: of the medians, in parentheses '
               'those of single rounds')
    for r in rows:
        out.append(verdict(r['name'], GOAL, r['ratio_of_medians']))
    by_ram = sorted((mib, statistics.median(s['sev']))
                    for (first, _, mib, cpus), s in samples.items()
                    if cpus == 1 and first == 'plain')
    if len(by_ram) > 1:
        (least, short), (most, long) = by_ram[0], by_ram[-1]
        out.append(verdict(f'flat in RAM, {most} MiB against {least} MiB', GOAL,
                           long / short))
    write(args.directory, 'sev-hand-over', out,
          [{'first': first, 'second': second, 'mib': mib, 'cpus': cpus, **s}
           for (first, second, mib, cpus), s in samples.items()])
    return 0


if __name__ == '__main__':
    sys.exit(main())
