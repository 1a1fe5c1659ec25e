"""What the emulated SEV platform costs: the host that has it, and a guest.

usage: sev.py TOP DIRECTORY [--rounds N]

Boots the emulated host with SEV off and on, in turns; then, in one host, runs
a guest that touches memory, plain and with SEV, in turns.  Medians, ratios and
their spread go to DIRECTORY/sev.txt and sev.json.
"""

import sys

from emulated import arguments, host, row, verdict, write

GOALS = {'boot': 1.05, 'touch': 1.25}


def main():
    args = arguments(__doc__).parse_args()

    boot = {'off': [], 'on': []}
    for n in range(args.rounds):
        # neither is always the one that comes first
        for which in (('off', 'on') if n % 2 else ('on', 'off')):
            seconds, _ = host(args.top, 'sev', 'bench', '--append', 'rounds=0',
                              *(['--plain'] if which == 'off' else []))
            boot[which].append(seconds)
        print(f'boot, round {n + 1} of {args.rounds}: off '
              f"{boot['off'][-1]} s, on {boot['on'][-1]} s", flush=True)
    _, lines = host(args.top, 'sev', 'bench', '--append', f'rounds={args.rounds}',
                    '--limit', '900')
    touch = {'plain': [], 'sev': []}
    for line in lines:
        words = line.split()
        if words[:1] == ['bench:']:
            # 10^9 cycles: the first time, and then again
            touch[words[1]].append([int(w, 16) / 1e9 for w in words[2:]])
    columns = {kind: [[t[0] for t in times], [t[1] for t in times],
                      [t[0] + t[1] for t in times]]
               for kind, times in touch.items()}

    rows = [row('host boots, SEV off', 's', boot['off'], boot['off']),
            row('host boots, SEV on', 's', boot['on'], boot['off'])]
    for i, what in enumerate(('first touch', 'again', 'both')):
        for kind in 'plain', 'sev':
            rows.append(row(f'{kind} guest touches memory: {what}',
                            '10^9 cycles', columns[kind][i],
                            columns['plain'][i]))
    out = ['{:40} {:>10} {:>17}  {:12} {:>6} {:>12}'.format(
        '', 'median', '(least-most)', '', 'ratio', '(least-most)')]
    for r in rows:
        out.append('{:40} {:10.3f} {:>17}  {:12} {:6.2f} {:>12}'.format(
            r['name'], r['median'], f"{r['least']:.3f}-{r['most']:.3f}",
            r['unit'], r['ratio'],
            f"{r['ratio_least']:.2f}-{r['ratio_most']:.2f}"))
    out.append('')
    out.append(f'{args.rounds} rounds; ratio: to the row without SEV, median '
               'of the rounds')
    for what, goal, ratio in (
            ('the host boots with SEV', GOALS['boot'], rows[1]['ratio']),
            ('a guest with SEV touches memory', GOALS['touch'],
             rows[-1]['ratio'])):
        out.append(verdict(what, goal, ratio))
    write(args.directory, 'sev', out,
          {'rounds': args.rounds, 'boot': boot, 'touch': touch, 'rows': rows})
    return 0


if __name__ == '__main__':
    sys.exit(main())
