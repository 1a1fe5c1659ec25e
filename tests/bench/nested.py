"""What saving and loading the devices of a guest that is in L2 costs, against
QEMU without the queue, on the same emulated host.

usage: nested.py TOP DIRECTORY [--rounds N]

The two take turns, with one and with two vCPUs.  Medians, ratios and their
spread go to DIRECTORY/nested.txt and .json.
"""

import sys

from emulated import arguments, host, row, verdict, write

GOAL = 1.05
WITHOUT, WITH = 'pristine', 'qemu'
WHAT = ['save', 'load', 'size']
UNITS = {'save': ('ms', 1e6), 'load': ('ms', 1e6), 'size': ('bytes', 1)}


def main():
    args = arguments(__doc__).parse_args()

    _, lines = host(args.top, 'svm', 'nested-bench', '--limit', '3000',
                    '--append', f'rounds={args.rounds}')
    samples = {}
    for line in lines:
        words = line.split()
        if words[:1] != ['bench:']:
            continue
        for what, value in zip(WHAT, words[3:6]):
            samples.setdefault((what, int(words[1])), {WITHOUT: [], WITH: []})[
                words[2]].append(int(value) / UNITS[what][1])
    out = ['{:16} {:>12} {:>17} {:>12} {:>17} {:>6} {:>12}'.format(
        'devices, in L2', 'without', '(least-most)', 'with', '(least-most)',
        'ratio', '(least-most)')]
    rows = []
    for (what, cpus), s in samples.items():
        unit = UNITS[what][0]
        name = f"{what}, {cpus} vCPU{'s' if cpus > 1 else ''}"
        without = row(name, unit, s[WITHOUT], s[WITHOUT])
        r = row(name, unit, s[WITH], s[WITHOUT])
        # the ratio of medians: a sample's noise is as large as what it measures
        r['ratio_of_medians'] = r['median'] / without['median']
        rows.append(r)
        out.append('{:16} {:12.1f} {:>17} {:12.1f} {:>17} {:6.3f} {:>12}'.format(
            name, without['median'],
            f"{without['least']:.1f}-{without['most']:.1f}", r['median'],
            f"{r['least']:.1f}-{r['most']:.1f}", r['ratio_of_medians'],
            f"{r['ratio_least']:.2f}-{r['ratio_most']:.2f}"))
    out += ['', 'ms, bytes; %d rounds of %d samples; ratio: of the medians, in '
            'parentheses those of single samples' %
            (args.rounds, len(s[WITH]) // args.rounds)]
    out += [verdict(r['name'], GOAL, r['ratio_of_medians']) for r in rows
            if r['unit'] == 'ms']
    write(args.directory, 'nested', out,
          [{'what': what, 'cpus': cpus, 'unit': UNITS[what][0], **s}
           for (what, cpus), s in samples.items()])
    return 0


if __name__ == '__main__':
    sys.exit(main())
